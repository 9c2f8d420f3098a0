"use strict";
// What moves on the page of a run: its status, its volumes, and what a reader has opened survives a reload.
(() => {
  // a page without pictures is that of a run that has just begun
  const RELOAD_SECONDS = document.images.length ? 15 : 5, SILENT_SECONDS = 60;

  const duration = (seconds) => {
    const whole = Math.round(seconds), two = (n) => String(n).padStart(2, "0");
    if (whole < 60) return `${whole} s`;
    if (whole < 3600) return `${Math.floor(whole / 60)} min ${two(whole % 60)} s`;
    return `${Math.floor(whole / 3600)} h ${Math.floor(whole % 3600 / 60)} min`;
  };

  // --- what a reader has opened, moved and turned ---
  const place = "manyviews " + location.pathname;
  let kept = {};
  // a page that is shut in, as `manyviews serve` does, has a history and no storage
  try { kept = JSON.parse(sessionStorage.getItem(place)) || {}; } catch { kept = history.state || {}; }
  const keep = () => {
    const folds = {}, inputs = {};
    document.querySelectorAll("details[id]").forEach((fold) => { folds[fold.id] = fold.open; });
    document.querySelectorAll("input[id]").forEach((input) => { inputs[input.id] = input.value; });
    const all = { ...kept, folds, inputs, scroll: scrollY };
    try { sessionStorage.setItem(place, JSON.stringify(all)); } catch { history.replaceState(all, ""); }
  };
  addEventListener("pagehide", keep);
  for (const [id, open] of Object.entries(kept.folds || {})) {
    const fold = document.getElementById(id);
    if (fold) fold.open = open;
  }
  const value = (input) => {
    const before = (kept.inputs || {})[input.id];
    if (before !== undefined) input.value = before;
    return Number(input.value);
  };

  // --- status ---
  const status = document.getElementById("status");
  const running = () => status && status.dataset.state === "running";
  const lived = () => {
    const age = Math.max(0, Date.now() / 1000 - Number(status.dataset.updated));
    const silent = age > SILENT_SECONDS;
    const when = new Date(Number(status.dataset.updated) * 1000).toLocaleString();
    status.classList.toggle("lost", silent);
    status.querySelector(".life").textContent = silent
      ? `No sign of life since ${when}, for ${duration(age)}: it may have been killed. The same command goes on from its last checkpoint.`
      : `Last sign of life ${duration(age)} ago.`;
    status.querySelectorAll("[data-left]").forEach((told) => {
      // as counted_down in runs/status.py: what takes longer than it was told takes some more
      const before = Number(told.dataset.left), left = Math.max(before - age, Math.min(0.1 * age, before));
      told.textContent = silent ? "" : `${told.dataset.before}${left > 2 ? duration(left) + " left" : "a moment left"}`;
    });
  };
  let held = false; // a hand on the page
  addEventListener("pointerdown", () => { held = true; });
  addEventListener("pointerup", () => { held = false; });
  if (running()) {
    lived();
    setInterval(lived, 1000);
    let due = Date.now() + 1000 * RELOAD_SECONDS;
    setInterval(() => {
      if (Date.now() < due || held || document.hidden) return;
      due = Date.now() + 1000 * RELOAD_SECONDS;
      keep();
      location.reload();
    }, 500);
  }

  // --- volumes ---
  const load = async (box) => {
    const image = box.querySelector("img.levels");
    await image.decode();
    const [nx, ny, nz] = box.dataset.size.split(" ").map(Number), columns = Number(box.dataset.columns);
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
    const pen = canvas.getContext("2d", { willReadFrequently: true });
    pen.drawImage(image, 0, 0);
    const pixels = pen.getImageData(0, 0, canvas.width, canvas.height).data;
    const levels = new Uint8Array(nx * ny * nz);
    for (let z = 0, to = 0; z < nz; z++) {
      const left = (z % columns) * nx, top = Math.floor(z / columns) * ny;
      for (let y = 0; y < ny; y++) {
        let from = 4 * ((top + y) * canvas.width + left);
        for (let x = 0; x < nx; x++, from += 4) levels[to++] = pixels[from];
      }
    }
    return { levels, nx, ny, nz };
  };

  const number = (x) => Math.abs(x) >= 1e5 || (x !== 0 && Math.abs(x) < 1e-3) ? x.toExponential(2) : String(Number(x.toPrecision(4)));

  const slices = (box, volume) => {
    const { levels, nx, ny, nz } = volume;
    const [low, high] = box.dataset.range.split(" ").map(Number);
    const block = Number(box.dataset.block), voxel = Number(box.dataset.voxel); // 0: not known
    const at = (x, y, z) => levels[(z * ny + y) * nx + x];
    // y and z point up, as in the pictures
    const planes = {
      xy: { wide: nx, tall: ny, deep: nz, axis: "z", level: (i, j, k) => at(i, j, k) },
      xz: { wide: nx, tall: nz, deep: ny, axis: "y", level: (i, j, k) => at(i, k, j) },
      yz: { wide: nz, tall: ny, deep: nx, axis: "x", level: (i, j, k) => at(k, j, i) },
    };
    const black = box.querySelector("input.black"), white = box.querySelector("input.white");
    const grey = (input) => low + (Number(input.value) / 255) * (high - low);
    const draw = (name) => {
      const plane = planes[name], figure = box.querySelector(`figure.${name}`);
      const canvas = figure.querySelector("canvas"), k = Number(figure.querySelector("input").value);
      [canvas.width, canvas.height] = [plane.wide, plane.tall];
      const pen = canvas.getContext("2d"), picture = pen.createImageData(plane.wide, plane.tall);
      const first = Number(black.value), scale = 255 / Math.max(1, Number(white.value) - first);
      for (let j = 0, to = 0; j < plane.tall; j++) {
        for (let i = 0; i < plane.wide; i++, to += 4) {
          picture.data.fill((plane.level(i, plane.tall - 1 - j, k) - first) * scale, to, to + 3);
          picture.data[to + 3] = 255;
        }
      }
      pen.putImageData(picture, 0, 0);
      // sections are numbered from 1
      const index = Math.round((k + 0.5) * block + 0.5), from = voxel ? `, ${number((k + 0.5) * block * voxel)} Å from the first face` : "";
      figure.querySelector("figcaption").textContent = `${name}, section ${index} of ${figure.dataset.deep} along ${plane.axis}${from}`;
    };
    const all = () => {
      Object.keys(planes).forEach(draw);
      box.querySelector(".lowest").textContent = number(grey(black));
      box.querySelector(".highest").textContent = number(grey(white));
    };
    for (const name of Object.keys(planes)) {
      const input = box.querySelector(`figure.${name} input`);
      value(input);
      input.addEventListener("input", () => draw(name));
    }
    [black, white].forEach((input) => { value(input); input.addEventListener("input", all); });
    all();
  };

  const VERTEX = `#version 300 es
    in vec2 corner; out vec2 where;
    void main() { where = corner; gl_Position = vec4(corner, 0.0, 1.0); }`;
  // rays are parallel; where one first meets the level it is narrowed down by halves, lit by the gradient
  const FRAGMENT = `#version 300 es
    precision highp float; precision highp sampler3D;
    in vec2 where; out vec4 shade;
    uniform sampler3D levels; uniform mat3 turn; uniform vec3 half_size; uniform vec3 voxels;
    uniform float level; uniform float zoom;
    float at(vec3 p) { return texture(levels, p / half_size * 0.5 + 0.5).r; }
    void main() {
      vec3 from = turn * vec3(where / zoom, 2.0), along = turn * vec3(0.0, 0.0, -1.0) + 1e-7;
      vec3 a = (-half_size - from) / along, b = (half_size - from) / along;
      vec3 near = min(a, b), far = max(a, b);
      float t = max(max(near.x, near.y), near.z), last = min(min(far.x, far.y), far.z);
      shade = vec4(0.0);
      if (t >= last) return;
      float side = max(max(voxels.x, voxels.y), voxels.z), pace = 1.4 / side;
      for (int i = 0; i < 1600; i++, t += pace) {
        if (t > last) return;
        if (at(from + t * along) < level) continue;
        float before = t - pace, behind = t;
        for (int j = 0; j < 6; j++) {
          float middle = 0.5 * (before + behind);
          if (at(from + middle * along) < level) before = middle; else behind = middle;
        }
        vec3 p = from + behind * along; float e = 2.4 / side;
        vec3 slope = vec3(at(p + vec3(e, 0, 0)) - at(p - vec3(e, 0, 0)), at(p + vec3(0, e, 0)) - at(p - vec3(0, e, 0)),
                          at(p + vec3(0, 0, e)) - at(p - vec3(0, 0, e)));
        vec3 normal = -normalize(transpose(turn) * slope + 1e-9);
        float lit = 0.25 + 0.75 * max(0.0, dot(normal, normalize(vec3(-0.35, 0.45, 0.82))));
        float depth = clamp(0.5 * behind - 0.3, 0.0, 1.0);
        shade = vec4(vec3(0.42, 0.66, 0.86) * lit * (1.0 - 0.35 * depth), 1.0);
        return;
      }
    }`;

  const program = (gl) => {
    const made = gl.createProgram();
    for (const [kind, source] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, source);
      gl.compileShader(shader);
      if (!gl.getShaderParameter(shader, gl.COMPILE_STATUS)) throw new Error(gl.getShaderInfoLog(shader));
      gl.attachShader(made, shader);
    }
    gl.linkProgram(made);
    gl.useProgram(made);
    return made;
  };

  const surface = (box, volume) => {
    const canvas = box.querySelector("canvas.surface"), slider = box.querySelector("input.level");
    const gl = canvas.getContext("webgl2", { alpha: true, premultipliedAlpha: true, preserveDrawingBuffer: true });
    if (!gl) { box.querySelector(".turning").hidden = true; return; }
    const made = program(gl), { levels, nx, ny, nz } = volume, side = Math.max(nx, ny, nz);
    const uniform = (name) => gl.getUniformLocation(made, name);
    gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer());
    gl.bufferData(gl.ARRAY_BUFFER, new Float32Array([-1, -1, 3, -1, -1, 3]), gl.STATIC_DRAW);
    gl.enableVertexAttribArray(gl.getAttribLocation(made, "corner"));
    gl.vertexAttribPointer(gl.getAttribLocation(made, "corner"), 2, gl.FLOAT, false, 0, 0);
    gl.bindTexture(gl.TEXTURE_3D, gl.createTexture());
    gl.pixelStorei(gl.UNPACK_ALIGNMENT, 1);
    gl.texImage3D(gl.TEXTURE_3D, 0, gl.R8, nx, ny, nz, 0, gl.RED, gl.UNSIGNED_BYTE, levels);
    for (const name of ["TEXTURE_MIN_FILTER", "TEXTURE_MAG_FILTER"]) gl.texParameteri(gl.TEXTURE_3D, gl[name], gl.LINEAR);
    for (const name of ["TEXTURE_WRAP_S", "TEXTURE_WRAP_T", "TEXTURE_WRAP_R"]) gl.texParameteri(gl.TEXTURE_3D, gl[name], gl.CLAMP_TO_EDGE);
    gl.uniform3f(uniform("half_size"), nx / side, ny / side, nz / side);
    gl.uniform3f(uniform("voxels"), nx, ny, nz);

    let view = (kept.views || {})[box.id] || { turn: [1, 0, 0, 0, 1, 0, 0, 0, 1], zoom: 0.9 };
    const draw = (pixels) => {
      [canvas.width, canvas.height] = [pixels, pixels];
      gl.viewport(0, 0, pixels, pixels);
      gl.uniformMatrix3fv(uniform("turn"), false, view.turn);
      gl.uniform1f(uniform("level"), Number(slider.value) / 255);
      gl.uniform1f(uniform("zoom"), view.zoom);
      gl.clearColor(0, 0, 0, 0);
      gl.clear(gl.COLOR_BUFFER_BIT);
      gl.drawArrays(gl.TRIANGLES, 0, 3);
      kept.views = { ...kept.views, [box.id]: view };
    };
    const fine = () => draw(Math.min(720, Math.round(canvas.clientWidth * devicePixelRatio) || 480));
    let waiting = false, still;
    const moved = () => { // coarse while it moves: not every machine has a fast GPU
      clearTimeout(still);
      still = setTimeout(fine, 150);
      if (waiting) return;
      waiting = true;
      requestAnimationFrame(() => { waiting = false; draw(220); });
    };
    // columns of `turn` are the axes of the view, in the volume; a drag turns about the view's own x and y
    const times = (a, b) => [0, 3, 6].flatMap((c) => [0, 1, 2].map((r) => a[r] * b[c] + a[r + 3] * b[c + 1] + a[r + 6] * b[c + 2]));
    canvas.addEventListener("pointerdown", (event) => canvas.setPointerCapture(event.pointerId));
    canvas.addEventListener("pointermove", (event) => {
      if (!event.buttons) return;
      const across = -2.5 * event.movementX / canvas.clientWidth, down = -2.5 * event.movementY / canvas.clientWidth;
      const [s, c, u, v] = [Math.sin(across), Math.cos(across), Math.sin(down), Math.cos(down)];
      view.turn = times(times(view.turn, [c, 0, -s, 0, 1, 0, s, 0, c]), [1, 0, 0, 0, v, u, 0, -u, v]);
      moved();
    });
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      view.zoom = Math.min(8, Math.max(0.4, view.zoom * Math.exp(-event.deltaY / 600)));
      moved();
    }, { passive: false });
    const [low, high] = box.dataset.range.split(" ").map(Number);
    const tell = () => { box.querySelector(".at").textContent = number(low + (Number(slider.value) / 255) * (high - low)); };
    value(slider);
    slider.addEventListener("input", () => { tell(); moved(); });
    box.querySelector(".turning").addEventListener("toggle", moved);
    tell();
    fine();
  };

  document.querySelectorAll(".volume").forEach(async (box) => {
    try {
      const volume = await load(box);
      slices(box, volume);
      surface(box, volume);
      box.dataset.shown = "yes";
    } catch (error) { console.error(error); }
  });
  if (kept.scroll) scrollTo(0, kept.scroll);
})();
