// The report's own script: a click on a disc's row or thumbnail marks it and, where WebGL2 is there, moves the viewer.
"use strict";
(() => {
  const text = document.getElementById("viewer-data");
  const data = text ? JSON.parse(text.textContent) : { channels: [], discs: [] };
  const centroids = new Map(data.discs.map((disc) => [disc.level, disc.centroid_mm]));
  const names = new Map(data.discs.map((disc) => [disc.level, disc.name]));
  const unsure = new Set((data.discs).filter((disc) => disc.unsure).map((disc) => disc.level));
  const leftOut = new Map(data.left_out ?? []); // below the lowest disc: value and name
  const selectable = [...document.querySelectorAll("[data-level]")];
  const stage = document.querySelector(".stage");
  const TIGHT = 0.995; // tiles that touch overlap by a rounding error, which NiiVue refuses
  let viewer = null;

  function mark(level) {
    for (const element of selectable) {
      const chosen = Number(element.dataset.level) === level;
      element.classList.toggle("chosen", chosen);
      (element.querySelector("button") ?? element).setAttribute("aria-pressed", String(chosen));
    }
  }

  function choose(level) {
    if (viewer && centroids.has(level)) {
      viewer.goTo(centroids.get(level));
      stage.scrollIntoView({ block: "nearest" });
    }
    mark(level);
  }

  for (const element of selectable) element.addEventListener("click", () => choose(Number(element.dataset.level)));
  document.body.classList.add("scripted");
  if (text) start();

  async function start() {
    const notice = document.getElementById("no-viewer");
    if (!document.createElement("canvas").getContext("webgl2")) {
      notice.textContent = "The interactive viewer needs WebGL2, which this browser lacks or has switched off. " +
        "Everything else on this page works without it.";
      return;
    }
    const tools = document.querySelector(".tools");
    const hint = document.querySelector(".hint");
    for (const element of [tools, stage, hint]) element.hidden = false;
    notice.hidden = true;
    try {
      viewer = await openViewer(tools);
    } catch (error) {
      for (const element of [tools, stage, hint]) element.hidden = true;
      notice.hidden = false;
      notice.textContent = `The interactive viewer could not start: ${error.message ?? error}`;
    }
  }

  // The three planes in tiles of their own proportions: in a row, or on a narrow screen the axial one below the others.
  function layout(nv, types) {
    const { dimsRAS, pixDimsRAS } = nv.volumes[0];
    const [across, deep, tall] = [1, 2, 3].map((axis) => dimsRAS[axis] * pixDimsRAS[axis]);
    const sides = deep + across;
    if (stage.clientWidth < stage.clientHeight) {
      const sagittal = deep / sides;
      return [
        { sliceType: types.SAGITTAL, position: [0, 0, TIGHT * sagittal, 0.65] },
        { sliceType: types.CORONAL, position: [sagittal, 0, TIGHT * (1 - sagittal), 0.65] },
        { sliceType: types.AXIAL, position: [0, 0.66, 1, 0.34] },
      ];
    }
    const widths = [deep / tall, across / tall, across / deep]; // at one height
    const total = widths.reduce((sum, width) => sum + width);
    let left = 0;
    return [types.SAGITTAL, types.CORONAL, types.AXIAL].map((sliceType, place) => {
      const width = widths[place] / total;
      left += width;
      return { sliceType, position: [left - width, 0, TIGHT * width, 1] };
    });
  }

  // The voxels of each disc that have a neighbour of another value; where the image ends there is none.
  function rimsOf(labels, [nx, ny, nz]) {
    const rims = labels.slice();
    const steps = [[1, nx], [nx, ny], [nx * ny, nz]];
    for (let voxel = 0; voxel < labels.length; voxel += 1) {
      const value = labels[voxel];
      if (value === 0) continue;
      const inside = steps.every(([step, size]) => {
        const place = Math.floor(voxel / step) % size;
        return (place === 0 || labels[voxel - step] === value) && (place === size - 1 || labels[voxel + step] === value);
      });
      if (inside) rims[voxel] = 0;
    }
    return rims;
  }

  async function openViewer(tools) {
    const { DRAG_MODE, NVImage, Niivue, SHOW_RENDER, SLICE_TYPE } = window.niivue;
    const nv = new Niivue({
      logLevel: "error", loadingText: "", dragAndDropEnabled: false, viewModeHotKey: "", clipPlaneHotKey: "",
      cycleClipPlaneHotKey: "", isRadiologicalConvention: true, sagittalNoseLeft: true, isOrientCube: false,
      crosshairColor: [1, 1, 1, 0.6], crosshairWidth: 0.5, crosshairWidthUnit: "mm", crosshairGap: 8,
      backColor: [0.06, 0.06, 0.06, 1], multiplanarShowRender: SHOW_RENDER.NEVER, fontColor: [0.75, 0.75, 0.75, 1],
      scrollRequiresFocus: true, show3Dcrosshair: true,
      dragMode: DRAG_MODE.windowing,
    });
    await nv.attachToCanvas(document.getElementById("canvas"));
    const load = (name, base64, options) => NVImage.loadFromBase64({ base64, name: `${name}.nii.gz`, ...options });
    const gray = { colormap: "gray", cal_min: 0, cal_max: 255 };
    const image = await load("image", data.channels[0].nifti, gray);
    const discs = await load("discs", data.labels, { opacity: 0.5 });
    const column = (place) => [place === 4 ? "" : 0, ...data.colours.map((colour) => colour[place])];
    discs.setColormapLabel({ I: column(0), R: column(1), G: column(2), B: column(3), labels: column(4) });
    nv.addVolume(image);
    nv.addVolume(discs);

    let going = false;
    let place = [0, 0, 0];
    const anchor = document.getElementById("anchor");
    const anchorLevel = document.getElementById("anchor-level");
    const position = document.getElementById("position");
    nv.onLocationChange = (location) => {
      const [x, y, z] = location.mm;
      const level = Math.round(location.values[1]?.value ?? 0);
      place = [x, y, z];
      anchor.textContent = "";
      const words = [["R", "L", x], ["A", "P", y], ["S", "I", z]]
        .map(([plus, minus, mm]) => `${mm < 0 ? minus : plus} ${Math.abs(mm).toFixed(1)}`).join("  ");
      if (names.has(level)) anchorLevel.value = names.get(level);
      const name = names.has(level) ? `${names.get(level)}${unsure.has(level) ? " ?" : ""}`
        : leftOut.has(level) ? `${leftOut.get(level)} (left out)` : "";
      position.textContent = `${words} mm  ${name}`;
      if (!going) mark(level);
    };
    const goTo = (mm) => {
      going = true;
      nv.scene.crosshairPos = nv.mm2frac(mm, 0, true);
      nv.createOnLocationChange();
      going = false;
      nv.drawScene();
    };

    const opacity = document.getElementById("opacity");
    const overlay = document.getElementById("overlay");
    const fade = () => nv.setOpacity(1, overlay.checked ? Number(opacity.value) : 0);
    opacity.addEventListener("input", () => { overlay.checked = true; fade(); });
    overlay.addEventListener("change", fade);

    const outline = document.getElementById("outline");
    const filled = discs.img;
    let rims = null;
    outline.addEventListener("change", () => {
      rims ??= rimsOf(filled, discs.hdr.dims.slice(1, 4));
      discs.img = outline.checked ? rims : filled;
      nv.updateGLVolume();
    });

    // About the cross, which stays where it is on the screen.
    const zoom = document.getElementById("zoom");
    zoom.addEventListener("input", () => {
      const [x, y, z, before] = nv.scene.pan2Dxyzmm;
      const less = before - Number(zoom.value);
      const [across, deep, tall] = nv.frac2mm(nv.scene.crosshairPos);
      nv.setPan2Dxyzmm([x + less * across, y + less * deep, z + less * tall, Number(zoom.value)]);
    });
    stage.addEventListener("dblclick", () => {
      for (const volume of nv.volumes.slice(0, 1)) Object.assign(volume, { cal_min: 0, cal_max: 255 });
      nv.updateGLVolume();
    });

    document.getElementById("copy-anchor").addEventListener("click", async () => {
      const option = `--anchor "${anchorLevel.value}=${place.map((mm) => Number(mm.toFixed(1))).join(",")}"`;
      anchor.textContent = option;
      try {
        await navigator.clipboard.writeText(option);
      } catch {
        getSelection().selectAllChildren(anchor); // a browser that forbids it: the text is there to be copied
      }
    });

    const views = [...tools.querySelectorAll("[data-view]")];
    const types = {
      all: SLICE_TYPE.MULTIPLANAR, sagittal: SLICE_TYPE.SAGITTAL, coronal: SLICE_TYPE.CORONAL,
      axial: SLICE_TYPE.AXIAL, "3d": SLICE_TYPE.RENDER,
    };
    let shown = "all";
    const show = (view) => {
      for (const button of views) button.setAttribute("aria-pressed", String(button.dataset.view === view));
      nv.clearCustomLayout();
      // In 3D the tissue would hide the discs: it turns to glass.
      nv.setOpacity(0, view === "3d" ? 0.15 : 1);
      nv.setSliceType(types[view]);
      if (view === "all") nv.setCustomLayout(layout(nv, SLICE_TYPE));
      shown = view;
    };
    for (const button of views) button.addEventListener("click", () => show(button.dataset.view));

    const channel = document.getElementById("channel");
    const arrays = new Map([[0, image.img]]);
    channel?.addEventListener("change", async () => {
      const number = Number(channel.value);
      if (!arrays.has(number)) arrays.set(number, (await load("image", data.channels[number].nifti, gray)).img);
      image.img = arrays.get(number);
      nv.updateGLVolume();
    });

    nv.setRenderAzimuthElevation(150, 12);
    nv.volScaleMultiplier = 1.1;
    show("all");
    new ResizeObserver(() => { if (shown === "all") show("all"); }).observe(stage);
    const middle = data.discs[Math.floor(data.discs.length / 2)];
    if (middle) goTo(middle.centroid_mm);
    window.ivdjaxViewer = nv; // for tests and the curious
    return { goTo };
  }
})();
