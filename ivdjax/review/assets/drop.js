// The page that takes an image: files go to the server one by one, then one run, its progress, and its report.
"use strict";
(() => {
  const $ = (id) => document.getElementById(id);
  const TOKEN = document.querySelector("meta[name=ivdjax-token]").content;
  let sending = null; // the upload under way, which cancelling ends

  async function ask(path, options) {
    const headers = options ? { "X-Ivdjax-Token": TOKEN } : {};
    const answer = await fetch(path, { ...options, headers }).catch((error) => {
      throw error.name === "AbortError" ? error : new Error("The server does not answer. Start it again and open its new address.");
    });
    if (!answer.ok) throw new Error(await answer.text());
    return answer.json();
  }

  function say(text, bad = false) {
    $("message").textContent = text;
    $("message").classList.toggle("bad", bad);
  }

  async function filesOf(entry, above = "") {
    if (entry.isFile) {
      const file = await new Promise((give, fail) => entry.file(give, fail));
      return [{ file, name: above + file.name }];
    }
    const reader = entry.createReader();
    const found = [];
    for (;;) { // a folder is given in parts
      const part = await new Promise((give, fail) => reader.readEntries(give, fail));
      if (!part.length) break;
      for (const inner of part) found.push(...await filesOf(inner, `${above}${entry.name}/`));
    }
    return found;
  }

  async function take(files) {
    if (!files.length) return;
    say("");
    $("open").hidden = true;
    sending = new AbortController();
    try {
      await ask("/api/drop/begin", { method: "POST" });
      let sent = 0;
      for (const { file, name } of files) {
        show(`Taking ${name} (${sent + 1} of ${files.length})`, sent / files.length);
        await ask(`/api/drop/file?${new URLSearchParams({ name })}`, { method: "PUT", body: file, signal: sending.signal });
        sent += 1;
      }
      sending = null;
      await ask("/api/drop/run", { method: "POST" });
      await follow();
    } catch (error) {
      idle();
      say(error.name === "AbortError" ? "Cancelled." : error.message, error.name !== "AbortError");
    } finally {
      sending = null;
    }
  }

  function show(text, share) {
    $("line").textContent = text;
    $("bar").hidden = false;
    $("bar").value = share;
    $("detail").hidden = true;
    $("cancel").hidden = false;
  }

  function idle() {
    $("line").textContent = "Drop an image here";
    $("bar").hidden = true;
    $("detail").hidden = false;
    $("cancel").hidden = true;
  }

  async function follow() {
    for (;;) {
      const state = await ask("/api/drop");
      $("model").textContent = state.model;
      if (state.state !== "running") {
        idle();
        if (state.state === "done") {
          say(`Done in ${state.seconds.toFixed(0)} s.`);
          $("open").hidden = false;
          $("open").focus();
        } else if (state.state === "failed") say(state.reason, true);
        else if (state.state === "cancelled") say("Cancelled.");
        return;
      }
      const step = state.steps[Math.min(state.step, state.steps.length - 1)];
      show(`${step[0].toUpperCase()}${step.slice(1)} … ${state.seconds.toFixed(0)} s`, state.step);
      await new Promise((done) => setTimeout(done, 300));
    }
  }

  const zone = $("zone");
  for (const kind of ["dragenter", "dragover"]) zone.addEventListener(kind, (event) => {
    event.preventDefault();
    zone.classList.add("over");
  });
  zone.addEventListener("dragleave", () => zone.classList.remove("over"));
  for (const kind of ["dragover", "drop"]) document.addEventListener(kind, (event) => event.preventDefault());
  zone.addEventListener("drop", async (event) => {
    zone.classList.remove("over");
    const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
    try {
      take((await Promise.all(entries.map((entry) => filesOf(entry)))).flat());
    } catch (error) {
      say(error.message, true);
    }
  });
  zone.addEventListener("keydown", (event) => { if (event.key === "Enter" && event.target === zone) $("files").click(); });
  for (const id of ["files", "folder"]) $(id).addEventListener("change", () => {
    const files = [...$(id).files].map((file) => ({ file, name: file.webkitRelativePath || file.name }));
    $(id).value = "";
    take(files);
  });
  $("cancel").addEventListener("click", () => {
    if (sending) sending.abort();
    ask("/api/drop/cancel", { method: "POST" }).catch((error) => say(error.message, true));
  });
  follow().catch((error) => say(error.message, true));
})();
