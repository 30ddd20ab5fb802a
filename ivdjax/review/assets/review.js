// The review's page: the list of cases, the picture, the discs, and a decision for each key or click.
"use strict";
(() => {
  const $ = (id) => document.getElementById(id);
  const TOKEN = document.querySelector("meta[name=ivdjax-token]").content;
  const HIGHEST = 15;
  const TIGHT = 0.995; // tiles that touch overlap by a rounding error, which NiiVue refuses
  let cases = [];
  let current = null; // name of the case that is shown
  let state = null; // what the server last said of it
  let chosen = 0; // level of the disc that is marked
  let busy = false; // a decision is on its way
  let shown = null; // name of the case whose picture and table are all there
  let viewer = null;
  const images = new Map(); // of cases that were looked at lately, by name and channel
  window.ivdjaxReview = { get state() { return state; }, get viewer() { return viewer; }, get ready() { return shown !== null && shown === current && !busy; },
    timings: [] }; // for tests and the curious

  const who = () => new URLSearchParams({ reader: $("reader").value, blind: $("blind").checked ? "1" : "0" });

  async function ask(path, options = {}, more = {}) {
    const query = who();
    for (const [key, value] of Object.entries(more)) query.set(key, value);
    const headers = options.method ? { "X-Ivdjax-Token": TOKEN } : {};
    const answer = await fetch(`${path}?${query}`, { ...options, headers }).catch(() => {
      throw new Error("The server does not answer. Start the review again and open its new address; what was decided is kept.");
    });
    if (!answer.ok) throw Object.assign(new Error(await answer.text()), { status: answer.status });
    return answer.json();
  }

  const pathOf = (name, rest = "") => `/api/cases/${encodeURIComponent(name)}${rest}`;

  function say(text, bad = false) {
    $("message").textContent = text;
    $("message").classList.toggle("bad", bad);
  }

  function element(kind, text, name = "") {
    const made = document.createElement(kind);
    made.textContent = text;
    made.className = name;
    return made;
  }

  // The list ---------------------------------------------------------------------------------------------------------
  async function loadList() {
    cases = await ask("/api/cases");
    showList();
  }

  function matching() {
    const words = $("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
    return cases.filter((row) => {
      const text = [row.case, row.state, ...row.reasons, ...row.decided].join(" ").toLowerCase();
      return words.every((word) => text.includes(word));
    });
  }

  function showList() {
    const found = matching();
    $("shown").textContent = found.length === cases.length ? "" : `${found.length} of ${cases.length}`;
    $("cases").replaceChildren(...found.map((row) => {
      const line = document.createElement("li");
      line.dataset.case = row.case;
      line.className = row.state;
      if (row.case === current) {
        line.classList.add("current");
        line.setAttribute("aria-current", "true");
      }
      if (row.picture) {
        const picture = document.createElement("img");
        picture.loading = "lazy";
        picture.alt = "";
        picture.src = pathOf(row.case, "/picture");
        line.append(picture);
      } else line.append(element("div", "", "none"));
      line.append(element("b", row.case));
      const text = element("div", "");
      text.append(element("span", row.decided.length ? `✓ ${row.state}` : row.state, "state"));
      const why = row.decided.length ? row.decided[row.decided.length - 1] : row.reasons[0] ?? "";
      text.append(element("span", why ? `  ${why.length > 60 ? `${why.slice(0, 58)} …` : why}` : "", "why"));
      line.append(text);
      line.title = [...row.reasons, ...row.decided].join("\n");
      line.addEventListener("click", () => open(row.case));
      return line;
    }));
    const done = cases.filter((row) => row.decided.length).length;
    $("progress").textContent = `${done} of ${cases.length} decided`;
    document.querySelector("#cases .current")?.scrollIntoView({ block: "nearest", inline: "nearest" });
  }

  function neighbour(step, wanted = () => true) {
    const found = matching();
    const place = found.findIndex((row) => row.case === current);
    for (let at = place + step; at >= 0 && at < found.length; at += step) if (wanted(found[at])) return found[at].case;
    return null;
  }

  // A case -----------------------------------------------------------------------------------------------------------
  async function open(name) {
    if (name === null) return;
    const begin = performance.now();
    current = name;
    state = null;
    shown = null;
    history.replaceState(null, "", `#${encodeURIComponent(name)}`);
    showList();
    $("name").textContent = name;
    say("Loading …");
    try {
      const [told, image] = await Promise.all([ask(pathOf(name)), imageOf(name, "")]);
      if (current !== name) return;
      state = told;
      await showImage(image);
      await showState();
      say("");
      choose(told.discs[Math.floor(told.discs.length / 2)]?.level ?? 0);
      shown = name;
      window.ivdjaxReview.timings.push({ what: "open", ms: performance.now() - begin });
      prefetch();
    } catch (error) {
      if (current !== name) return;
      showNothing();
      say(error.message, true);
    }
  }

  async function imageOf(name, channel) {
    const key = `${name}\n${channel}`;
    if (!images.has(key)) images.set(key, ask(pathOf(name, "/image"), {}, channel ? { channel } : {}));
    while (images.size > 6) images.delete(images.keys().next().value);
    try {
      return await images.get(key);
    } catch (error) {
      images.delete(key);
      throw error;
    }
  }

  // The next case is loaded while this one is looked at.
  function prefetch() {
    const next = neighbour(1, (row) => row.state !== "failed");
    if (next !== null) {
      imageOf(next, "").catch(() => {});
      ask(pathOf(next)).catch(() => {});
    }
  }

  function showNothing() {
    state = null;
    $("verdict").textContent = "";
    for (const id of ["reasons", "history", "remarks", "downloads"]) $(id).replaceChildren();
    document.querySelector("#discs tbody").replaceChildren();
    $("saved").textContent = "";
    viewer?.clear();
  }

  async function showState() {
    $("verdict").textContent = state.verdict.toUpperCase();
    $("verdict").className = `badge ${state.verdict}`;
    $("reasons").replaceChildren(...state.reasons.map((text) => element("li", text)));
    $("remarks").replaceChildren(...state.remarks.map((text) => element("li", text)));
    $("history").replaceChildren(...state.history.map((entry) =>
      element("li", `${entry.words} (${entry.at.replace("T", " ").slice(0, 16)})`)));
    showSaved();
    showTable();
    showDownloads();
    const row = cases.find((one) => one.case === current);
    if (row) {
      row.state = state.verdict;
      row.reasons = state.reasons;
      row.decided = state.in_force ? state.history.map((entry) => entry.words).slice(-state.in_force) : [];
      showList();
    }
    await viewer?.showDiscs(state);
    choose(state.discs.some((disc) => disc.level === chosen) ? chosen : 0, false);
  }

  let savedTimer = 0;
  function showSaved() {
    clearTimeout(savedTimer);
    const decided = state.in_force > 0 && !$("blind").checked;
    $("saved").textContent = state.trouble ? `not written: ${state.trouble}`
      : !decided ? "" : state.saved ? "results written" : "kept; results are being written …";
    if (decided && !state.saved) savedTimer = setTimeout(async () => {
      const name = current;
      const told = await ask(pathOf(name)).catch(() => null);
      if (told && name === current && state && told.seen === state.seen) {
        state.saved = told.saved;
        state.trouble = told.trouble;
        showSaved();
        if (told.saved) refreshPicture(name);
      }
    }, 1000);
  }

  function refreshPicture(name) {
    const picture = document.querySelector(`#cases li[data-case="${CSS.escape(name)}"] img`);
    if (picture) picture.src = `${pathOf(name, "/picture")}?${Date.now()}`;
  }

  const NAMES = ["L5/S1", "L4/5", "L3/4", "L2/3", "L1/2", "T12/L1", "T11/12", "T10/11", "T9/10", "T8/9", "T7/8", "T6/7",
    "T5/6", "T4/5", "T3/4"];
  const number = (value, digits) => value === null || value === undefined ? "–" : value.toFixed(digits);

  function showTable() {
    document.querySelector("#discs tbody").replaceChildren(...[...state.discs].reverse().map((disc) => {
      const row = document.createElement("tr");
      row.dataset.level = disc.level;
      const cell = element("td", "");
      const dot = element("span", "", "dot");
      dot.style.background = disc.colour;
      const pick = document.createElement("select");
      pick.setAttribute("aria-label", `Level of the disc at ${disc.level_name}`);
      NAMES.forEach((text, place) => pick.append(new Option(text, place + 1, false, place + 1 === disc.level)));
      pick.addEventListener("change", () => decide({ deed: "level", disc: disc.level, to: Number(pick.value) }));
      cell.append(dot, pick);
      row.append(cell);
      for (const [key, digits] of [["level_confidence", 2], ["outline_confidence", 2], ["volume_mm3", 0],
        ["middle_height_mm", 1]]) {
        row.append(element("td", number(disc[key], digits), state.discs.length && disc.unsure.includes(key) ? "unsure" : ""));
      }
      row.addEventListener("click", (event) => { if (event.target !== pick) choose(disc.level); });
      return row;
    }));
  }

  function showDownloads() {
    if ($("blind").checked) return $("downloads").replaceChildren("not in a blind reading");
    $("downloads").replaceChildren(...Object.entries(state.files).map(([kind, text]) => {
      const link = element("a", text);
      link.href = pathOf(current, `/files/${kind}`);
      if (kind === "report") link.target = "_blank";
      return link;
    }));
  }

  function choose(level, go = true) {
    chosen = level;
    for (const row of document.querySelectorAll("#discs tbody tr")) {
      const own = Number(row.dataset.level) === level;
      row.classList.toggle("chosen", own);
      row.setAttribute("aria-selected", String(own));
    }
    const disc = state?.discs.find((one) => one.level === level);
    if (disc && go) viewer?.goTo(placeOf(disc));
    viewer?.label(state?.discs ?? [], state?.left_out ?? [], level);
  }

  // Decisions --------------------------------------------------------------------------------------------------------
  // Decisions wait for each other. One that was meant for a case that is no longer shown is dropped: nobody decides
  // about what they have not seen.
  let last = Promise.resolve();
  function decide(decision, text) {
    const meant = current;
    last = last.then(() => (shown !== null && shown === meant && current === meant ? carryOut(decision, text) : false));
    return last;
  }

  // A decision that is a file, an edited map, goes as it is.
  function send({ file, ...decision }, name) {
    const { seen } = state;
    return file ? ask(pathOf(name, "/outlines"), { method: "PUT", body: file }, { name: file.name, seen })
      : ask(pathOf(name, "/decisions"), { method: "POST", body: JSON.stringify({ ...decision, seen }) });
  }

  async function carryOut(decision, text) {
    busy = true;
    const begin = performance.now();
    const name = current;
    try {
      const told = await send(decision, name);
      const before = state;
      if (current === name) {
        const place = placeOf(state.discs.find((disc) => disc.level === chosen));
        state = told;
        chosen = place ? nearest(told.discs, place) : 0;
        await showState();
        say(text ?? told.history[told.history.length - 1]?.words ?? "");
        if (decision.deed === "shift") tellShift(before, told, decision.steps);
      }
      window.ivdjaxReview.timings.push({ what: decision.deed, ms: performance.now() - begin });
      return true;
    } catch (error) {
      say(error.message, true);
      window.ivdjaxReview.timings.push({ what: "refused", ms: performance.now() - begin });
      if (error.status === 409) {
        await open(name);
        say(error.message, true);
      }
      return false;
    } finally {
      busy = false;
    }
  }

  const placeOf = (disc) => disc && [disc.centroid_x_mm, disc.centroid_y_mm, disc.centroid_z_mm];

  // The disc that lies where the chosen one was, whatever it is called now.
  function nearest(discs, place) {
    const away = (disc) => Math.hypot(...placeOf(disc).map((mm, axis) => mm - place[axis]));
    return discs.reduce((best, disc) => (away(disc) < (best ? away(best) : 8) ? disc : best), null)?.level ?? 0;
  }

  // A disc may leave at an end, and another come in; anything else is worth a word.
  function tellShift(before, after, steps) {
    const then = before.discs.map((disc) => disc.level + steps);
    const now = after.discs.map((disc) => disc.level);
    const gone = then.filter((level) => !now.includes(level));
    const come = now.filter((level) => !then.includes(level));
    const list = (levels) => levels.map((level) => NAMES[level - 1] ?? `level ${level}`).join(", ");
    const told = [];
    if (come.length) told.push(`${list(come)} came in`);
    if (gone.length) told.push(`${gone.length === 1 ? "one disc lies" : `${gone.length} discs lie`} beyond the levels that are given out`);
    if (told.length) say(`All levels moved by ${steps > 0 ? "+" : ""}${steps}: ${told.join("; ")}.`);
  }

  function chooseBeside(step) {
    const levels = (state?.discs ?? []).map((disc) => disc.level);
    const place = levels.indexOf(chosen);
    const next = place < 0 ? 0 : place + step;
    if (levels[next] !== undefined) choose(levels[next]);
  }

  const deeds = {
    accept: async () => {
      if (!await decide({ deed: "accept" }, "Accepted.")) return;
      const undecided = (row) => !row.decided.length && row.state !== "failed";
      const next = neighbour(1, undecided) ?? matching().find(undecided)?.case ?? null;
      if (next !== null) await open(next); else say("Accepted. Every case of this list is decided.");
    },
    up: () => decide({ deed: "shift", steps: 1 }),
    down: () => decide({ deed: "shift", steps: -1 }),
    delete: () => chosen ? decide({ deed: "delete", disc: chosen }) : say("Choose a disc first.", true),
    transitional: () => decide({ deed: "transitional" }),
    note: () => { $("text").value = ""; $("note").showModal(); },
    undo: () => decide({ deed: "undo" }, "Undone."),
    previous: () => open(neighbour(-1)),
    next: () => open(neighbour(1)),
  };
  const keys = { a: deeds.accept, "+": deeds.up, "=": deeds.up, "-": deeds.down, "−": deeds.down, x: deeds.delete,
    Delete: deeds.delete, t: deeds.transitional, m: deeds.note, z: deeds.undo, k: deeds.previous, j: deeds.next,
    ArrowUp: () => chooseBeside(1), ArrowDown: () => chooseBeside(-1), "?": () => $("keys").showModal(),
    o: () => $("overlay").click() };

  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest?.("input:not([type=checkbox]):not([type=range]), select, textarea, dialog");
    if (typing || event.ctrlKey || event.altKey || event.metaKey) return;
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    if (/^[1-9]$/.test(key)) {
      event.preventDefault();
      if (chosen) decide({ deed: "level", disc: chosen, to: Number(key) });
      return;
    }
    if (keys[key]) {
      event.preventDefault();
      keys[key]();
    }
  }, true);
  for (const button of document.querySelectorAll("[data-do]")) {
    button.addEventListener("click", () => { deeds[button.dataset.do](); button.blur(); });
  }
  $("help").addEventListener("click", () => $("keys").showModal());
  $("note").addEventListener("close", () => {
    if ($("note").returnValue === "keep" && $("text").value.trim()) decide({ deed: "note", text: $("text").value });
    $("note").returnValue = "";
  });
  $("text").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && event.ctrlKey) $("note").close("keep");
  });
  $("filter").addEventListener("input", showList);
  $("filter").addEventListener("keydown", (event) => { if (event.key === "Enter" || event.key === "Escape") $("filter").blur(); });

  $("outlines").addEventListener("change", () => {
    const file = $("outlines").files[0];
    $("outlines").value = "";
    if (!file || !state) return;
    say(`Reading ${file.name} …`);
    decide({ file, deed: "outline" }, `The outlines of ${file.name} were taken and measured.`);
  });

  // Who reads --------------------------------------------------------------------------------------------------------
  // A cookie, since what a browser stores otherwise goes with the port, which each start draws anew.
  const stored = document.cookie.split("; ").find((one) => one.startsWith("ivdjax_reader="));
  $("reader").value = stored ? decodeURIComponent(stored.slice(stored.indexOf("=") + 1)) : "";
  $("blind").checked = sessionStorage.getItem("ivdjax-blind") === "1";
  async function readerChanged() {
    if ($("blind").checked && !$("reader").value.trim()) {
      $("blind").checked = false;
      say("Enter your name first: it tells a blind reading from the others.", true);
      return;
    }
    document.cookie = `ivdjax_reader=${encodeURIComponent($("reader").value)}; max-age=31536000; samesite=strict; path=/`;
    sessionStorage.setItem("ivdjax-blind", $("blind").checked ? "1" : "0");
    document.body.classList.toggle("blind", $("blind").checked);
    await loadList();
    if (current !== null) await open(current);
  }
  $("reader").addEventListener("change", readerChanged);
  $("reader").addEventListener("keydown", (event) => { if (event.key === "Enter") $("reader").blur(); });
  $("blind").addEventListener("change", () => { readerChanged(); $("blind").blur(); });

  $("agree").addEventListener("click", async () => {
    const kappa = (value) => value === null ? "has no value (all alike, or nothing in common)" : value.toFixed(2);
    $("agreements").replaceChildren(element("p", "Reading …"));
    $("agreement").showModal();
    try {
      const found = await ask("/api/agreement");
      $("agreements").replaceChildren(...(found.length ? found : [null]).map((one) => one === null
        ? element("p", "No two readers have decided about a case in common. A second reader ticks 'second reading, blind'.")
        : element("p", `${one.readers.join(" and ")}: ${one.cases} ${one.cases === 1 ? "case" : "cases"} in common. Verdicts alike in ${one.verdicts_same} of ` +
          `${one.cases}, Cohen's kappa ${kappa(one.verdicts)}. Levels alike for ${one.levels_same} of ${one.discs} discs, ` +
          `kappa ${kappa(one.levels)}.`)));
    } catch (error) {
      $("agreements").replaceChildren(element("p", error.message));
    }
  });

  // The picture ------------------------------------------------------------------------------------------------------
  const stage = document.querySelector(".stage");

  async function showImage(image) {
    $("channel").replaceChildren(...image.channels.map((name) => new Option(name, name, false, name === image.channel)));
    $("channel").parentElement.hidden = image.channels.length < 2;
    if (!viewer) viewer = await openViewer();
    await viewer.showImage(image);
  }

  $("channel").addEventListener("change", async () => {
    $("channel").blur();
    try {
      await viewer.showImage(await imageOf(current, $("channel").value));
      await viewer.showDiscs(state);
    } catch (error) {
      say(error.message, true);
    }
  });
  const fade = () => viewer?.fade();
  $("opacity").addEventListener("input", () => { $("overlay").checked = true; fade(); });
  $("opacity").addEventListener("change", () => $("opacity").blur());
  $("overlay").addEventListener("change", () => { $("overlay").blur(); fade(); });

  function withoutViewer(text) {
    $("no-viewer").hidden = false;
    $("no-viewer").textContent = text;
    $("canvas").hidden = true;
    const nothing = () => {};
    return { showImage: nothing, showDiscs: nothing, goTo: nothing, fade: nothing, clear: nothing, label: nothing };
  }

  async function openViewer() {
    if (!document.createElement("canvas").getContext("webgl2")) {
      return withoutViewer("Pictures need WebGL2, which this browser lacks or has switched off. All else works without it.");
    }
    const { NVImage, Niivue, SHOW_RENDER, SLICE_TYPE } = window.niivue;
    const nv = new Niivue({
      logLevel: "error", loadingText: "", dragAndDropEnabled: false, viewModeHotKey: "", clipPlaneHotKey: "",
      cycleClipPlaneHotKey: "", isRadiologicalConvention: true, sagittalNoseLeft: true, isOrientCube: false,
      crosshairColor: [1, 1, 1, 0.6], crosshairWidth: 0.5, crosshairWidthUnit: "mm", crosshairGap: 8,
      backColor: [0.06, 0.06, 0.06, 1], multiplanarShowRender: SHOW_RENDER.NEVER, fontColor: [0.75, 0.75, 0.75, 1],
      scrollRequiresFocus: true,
    });
    await nv.attachToCanvas($("canvas"));
    const load = (name, base64, options) => NVImage.loadFromBase64({ base64, name: `${name}.nii.gz`, ...options });
    let image = null;
    let discs = null;
    let going = false;

    function layout() {
      if (!image) return;
      const { dimsRAS, pixDimsRAS } = nv.volumes[0];
      const [across, deep, tall] = [1, 2, 3].map((axis) => dimsRAS[axis] * pixDimsRAS[axis]);
      const widths = [deep / tall, across / tall];
      const share = widths[0] / (widths[0] + widths[1]);
      nv.setSliceType(SLICE_TYPE.MULTIPLANAR);
      nv.setCustomLayout([
        { sliceType: SLICE_TYPE.SAGITTAL, position: [0, 0, TIGHT * share, 1] },
        { sliceType: SLICE_TYPE.CORONAL, position: [share, 0, TIGHT * (1 - share), 1] },
      ]);
    }

    nv.onLocationChange = (location) => {
      const [x, y, z] = location.mm;
      const level = Math.round(location.values[1]?.value ?? 0);
      const place = [["R", "L", x], ["A", "P", y], ["S", "I", z]]
        .map(([plus, minus, mm]) => `${mm < 0 ? minus : plus} ${Math.abs(mm).toFixed(1)}`).join("  ");
      const other = state?.left_out.find((one) => one.value === level); // no disc
      const name = other ? `${other.name} (left out)` : NAMES[level - 1] ?? "";
      $("position").textContent = `${place} mm${name && `  ${name}`}`;
      if (!going && level > 0 && level < 255 && !other) choose(level, false); // 255: between dashes
      placeNames();
    };
    new ResizeObserver(() => { layout(); placeNames(); }).observe(stage);
    for (const kind of ["wheel", "pointermove", "pointerup"]) $("canvas").addEventListener(kind, placeNames);

    // The name of each disc, and of what was left out, stands in front of it in the sagittal slice, and follows when the picture is moved or made larger.
    let named = [];
    function placeNames() {
      requestAnimationFrame(() => {
        for (const { place, label } of named) {
          const frac = image && nv.mm2frac([place[0], place[1] + 24, place[2]], 0, true);
          if (frac) frac[0] = nv.scene.crosshairPos[0]; // in the slice that is shown
          const found = frac && nv.frac2canvasPosWithTile(frac, SLICE_TYPE.SAGITTAL);
          label.hidden = !found || !$("overlay").checked;
          if (found) label.style.transform = `translate(${found.pos[0] / nv.uiData.dpr}px, ${found.pos[1] / nv.uiData.dpr}px)`;
        }
      });
    }

    function clear() {
      for (const volume of [...nv.volumes]) nv.removeVolume(volume);
      image = discs = null;
      label([], [], 0);
    }
    function label(shown, others, marked) {
      for (const one of named) one.label.remove();
      const add = (text, kind, colour, place) => {
        const made = element("span", text, kind);
        made.style.color = colour;
        stage.append(made);
        return { place, label: made };
      };
      named = [
        ...shown.map((disc) => add(disc.level_name, disc.level === marked ? "level marked" : "level", disc.colour, placeOf(disc))),
        ...others.map((one) => add(`(${one.name})`, "level", "#fff", one.centroid_mm)),
      ];
      placeNames();
    }
    const fade = () => { placeNames(); if (discs) nv.setOpacity(1, $("overlay").checked ? Number($("opacity").value) : 0); };
    return {
      clear, fade, label, nv,
      async showImage(told) {
        const loaded = await load("image", told.nifti, { colormap: "gray", cal_min: 0, cal_max: 255 });
        clear();
        image = loaded;
        nv.addVolume(image);
        layout();
      },
      async showDiscs(told) {
        if (!image) return;
        const loaded = await load("discs", told.labels, { opacity: 0.5 });
        const column = (place) => [place === 4 ? "" : 0, ...told.colours.map((colour) => colour[place])];
        loaded.setColormapLabel({ I: column(0), R: column(1), G: column(2), B: column(3), labels: column(4) });
        if (discs) nv.removeVolume(discs);
        discs = loaded;
        nv.addVolume(discs);
        fade();
        layout();
      },
      goTo(mm) {
        if (!image) return;
        going = true;
        nv.scene.crosshairPos = nv.mm2frac(mm, 0, true);
        nv.createOnLocationChange();
        going = false;
        nv.drawScene();
      },
    };
  }

  // Start ------------------------------------------------------------------------------------------------------------
  (async () => {
    try {
      document.body.classList.toggle("blind", $("blind").checked);
      await loadList();
      const named = decodeURIComponent(location.hash.slice(1));
      const first = cases.find((row) => row.case === named) ??
        cases.find((row) => !row.decided.length && row.state !== "failed") ?? cases[0];
      if (first) await open(first.case); else say("There is no case in this folder.");
    } catch (error) {
      say(error.message, true);
    }
  })();
})();
