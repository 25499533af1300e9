// What pages gain where scripts run: live figures, a video and a timeline that go together, a chart, a place to drop files.
// Every page is whole without it. It makes no request but to this service, and writes no markup but what the service drew.
"use strict";

(() => {
  const $ = (id) => document.getElementById(id);

  // --- live parts: the server draws, the page shows

  function live(place) {
    const state = $("live-state");
    const said = $("live-says");
    const source = new EventSource(place.dataset.live);
    let later = 0;
    const tell = (text, isLive) => {
      if (!state) return;
      state.textContent = text;
      state.classList.toggle("is-live", isLive);
    };
    source.addEventListener("open", () => {
      clearTimeout(later);
      tell("Live", true);
    });
    source.addEventListener("update", (event) => {
      const open = [...place.querySelectorAll("details[open]")].map((one) => one.id);
      const held = place.contains(document.activeElement) ? focusOf(document.activeElement) : null;
      place.innerHTML = event.data;
      open.forEach((id) => $(id)?.setAttribute("open", ""));
      if (held) place.querySelector(held)?.focus();
      if (said) sayStep(said, place);
      place.dispatchEvent(new CustomEvent("veriframe:update", { bubbles: true }));
    });
    source.addEventListener("done", () => {
      source.close();
      location.replace(location.pathname + location.hash);
    });
    // Streams end every minute and are taken up again within a second, of which nobody need hear.
    source.addEventListener("error", () => {
      clearTimeout(later);
      if (source.readyState === EventSource.CLOSED) tell("Not live any more: refresh the page", false);
      else later = setTimeout(() => tell("Connecting again…", false), 4000);
    });
    addEventListener("pagehide", () => source.close());
    addEventListener("pageshow", (event) => event.persisted && location.reload());
  }

  // Where the keyboard was, so that it is there again in what was drawn anew.
  function focusOf(held) {
    if (held.id) return `#${CSS.escape(held.id)}`;
    if (held.tagName === "SUMMARY") return `#${CSS.escape(held.parentElement.id)} > summary`;
    const href = held.getAttribute("href");
    return href ? `a[href="${CSS.escape(href)}"]` : null;
  }

  // Screen readers hear of a new stage, and of every quarter, not of each percent.
  let step = "";
  function sayStep(said, place) {
    const stage = place.querySelector(".going")?.textContent.trim() ?? "";
    const share = Number(place.querySelector("progress")?.value ?? 0);
    const now = `${stage} ${Math.floor(share / 25)}`;
    if (now !== step) {
      step = now;
      said.textContent = `${stage}, ${share} percent`;
    }
  }

  // --- a chart of the queue since the page was opened

  function chart(place, tiles) {
    if (!window.uPlot) return;
    const rows = [[], [], []];
    const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
    let drawn = null;
    const size = () => ({ width: Math.max(200, place.clientWidth), height: 150 });
    const axis = { stroke: () => css("--muted"), grid: { stroke: () => css("--line"), width: 1 }, ticks: { show: false } };
    const step = uPlot.paths.stepped({ align: 1 });
    const whole = (_, values) => values.map((value) => (Number.isInteger(value) ? value : ""));
    const make = () =>
      new uPlot(
        {
          ...size(),
          cursor: { show: false },
          series: [
            {},
            { label: "Waiting", stroke: () => css("--uncertain"), width: 2, dash: [6, 4], paths: step, points: { show: false } },
            { label: "Running", stroke: () => css("--accent"), width: 2, paths: step, points: { show: false } },
          ],
          scales: {
            x: { range: (_, low, high) => [Math.min(low, high - 120), high] },
            y: { range: (_, low, high) => [0, Math.max(4, high * 1.15)] },
          },
          axes: [axis, { ...axis, size: 44, values: whole }],
          legend: { live: false },
        },
        rows,
        place,
      );
    const add = () => {
      const figures = tiles.querySelector("[data-waiting]");
      if (!figures) return;
      rows[0].push(Date.now() / 1000);
      rows[1].push(Number(figures.dataset.waiting));
      rows[2].push(Number(figures.dataset.running));
      if (rows[0].length > 1200) rows.forEach((row) => row.shift());
      if (rows[0].length < 2) return;
      place.hidden = false;
      if (drawn) drawn.setData(rows);
      else drawn = make();
    };
    add();
    tiles.addEventListener("veriframe:update", add);
    // Figures that stand still are told once; time goes on.
    setInterval(add, 5000);
    addEventListener("resize", () => drawn?.setSize(size()));
  }

  // --- video and timeline go together

  function together(video, plot) {
    const svg = plot?.querySelector("svg[data-start-ms]");
    const start = Number(svg?.dataset.startMs ?? 0) / 1000;
    const span = Number(svg?.dataset.endMs ?? 0) / 1000 - start;
    // The plot's time begins with the first picture, the player's with the sound where that comes first.
    const starts = Number(video.dataset.startsS ?? 0);
    // Some players' clocks begin where the file's own times do, others at 0: each says so before it is sent anywhere.
    let begins = null;
    let wanted = null;
    const now = () => Math.max(0, video.currentTime - (begins ?? 0) - starts);
    const go = (seconds) => {
      if (begins !== null) video.currentTime = begins + Math.max(0, seconds) + starts;
      else {
        wanted = seconds;
        video.preload = "auto";
      }
    };
    // Who moves it before its first picture hides what it would have said: nearly all begin at 0.
    let moved = false;
    video.addEventListener("seeking", () => (moved = true), { once: true });
    const loaded = () => {
      begins = moved || video.seeking ? 0 : video.currentTime;
      if (wanted !== null) go(wanted);
    };
    const [address, moment] = video.getAttribute("src").split("#t=");
    if (moment !== undefined) {
      wanted = Number(moment) - starts;
      video.src = address;
    }
    if (moment === undefined && video.readyState >= HTMLMediaElement.HAVE_CURRENT_DATA) loaded();
    else video.addEventListener("loadeddata", loaded, { once: true });
    const seek = (seconds) => {
      go(seconds);
      video.scrollIntoView({ block: "nearest" });
    };
    document.addEventListener("click", (event) => {
      const link = event.target.closest("a.t");
      if (!link) return;
      event.preventDefault();
      seek(Number(link.dataset.tMs) / 1000);
    });
    if (!svg || !(span > 0)) return;
    const line = document.createElementNS("http://www.w3.org/2000/svg", "line");
    line.setAttribute("class", "playhead");
    line.setAttribute("y1", "28");
    line.setAttribute("y2", String(svg.height.baseVal.value - 36));
    svg.append(line);
    plot.classList.add("seeks");
    const follow = () => {
      const share = Math.min(1, Math.max(0, (now() - start) / span));
      line.setAttribute("x1", `${100 * share}%`);
      line.setAttribute("x2", `${100 * share}%`);
    };
    svg.addEventListener("click", (event) => {
      const face = event.target.closest("[data-t-ms]");
      const box = svg.getBoundingClientRect();
      seek(face ? Number(face.dataset.tMs) / 1000 : start + span * Math.min(1, Math.max(0, (event.clientX - box.left) / box.width)));
    });
    // A slider for those without a pointer, or a steady hand.
    const slider = document.createElement("input");
    Object.assign(slider, { type: "range", id: "moment", min: start, max: start + span, step: span / 200, value: now() });
    slider.setAttribute("aria-label", "Moment of the video");
    slider.addEventListener("input", () => go(Number(slider.value)));
    plot.after(slider);
    for (const name of ["timeupdate", "seeking", "loadedmetadata"])
      video.addEventListener(name, () => {
        follow();
        if (document.activeElement !== slider) slider.value = now();
        slider.setAttribute("aria-valuetext", `${now().toFixed(1)} seconds`);
      });
    follow();
  }

  // --- forms: once is enough; a file may be dropped

  function forms() {
    document.addEventListener("submit", (event) => {
      if (event.target.method !== "post") return;
      const buttons = event.target.querySelectorAll("button[type=submit]");
      // After this event: a disabled button would not be sent.
      setTimeout(() => buttons.forEach((button) => (button.disabled = true)));
      setTimeout(() => buttons.forEach((button) => (button.disabled = false)), 8000);
    });
    addEventListener("pageshow", () => document.querySelectorAll("button[disabled]").forEach((button) => (button.disabled = false)));
    const file = $("file");
    const drop = file?.closest(".drop");
    if (!drop) return;
    for (const name of ["dragenter", "dragover"])
      drop.addEventListener(name, (event) => {
        event.preventDefault();
        drop.classList.add("over");
      });
    for (const name of ["dragleave", "drop"]) drop.addEventListener(name, () => drop.classList.remove("over"));
    drop.addEventListener("drop", (event) => {
      event.preventDefault();
      if (event.dataTransfer?.files.length) file.files = event.dataTransfer.files;
    });
  }

  document.querySelectorAll("[data-live]").forEach(live);
  if ($("queue-chart") && $("queue")) chart($("queue-chart"), $("queue"));
  if ($("video")) together($("video"), $("timeline"));
  forms();
})();
