"use strict";
// News of the cards every few seconds; stopping a run. Texts come escaped from the server.
(() => {
  const SECONDS = 3;
  const cards = document.querySelector(".cards"), said = document.querySelector("output");
  const parsed = (html) => {
    const box = document.createElement("template");
    box.innerHTML = html;
    return box.content.firstElementChild;
  };

  const show = (news) => {
    const shown = new Map([...cards.children].map((card) => [card.dataset.run, card]));
    for (const [key, html] of news) {
      const fresh = parsed(html), card = shown.get(key);
      shown.delete(key);
      if (!card) { cards.append(fresh); continue; }
      // what a reader has picked or opened stays
      for (const part of [".live", ".picture", "h2"]) {
        const before = card.querySelector(part), after = fresh.querySelector(part);
        if (before && after && before.outerHTML !== after.outerHTML) before.replaceWith(after);
      }
    }
    shown.forEach((card) => card.remove());
    const none = document.querySelector(".none");
    if (none) none.hidden = cards.children.length > 0;
  };

  let lost = false, mark = "";
  const ask = async () => {
    if (!document.hidden) {
      try {
        const answer = await fetch(`/cards?have=${mark}`, { cache: "no-store" });
        if (!answer.ok) throw new Error(answer.status);
        if (answer.status === 200) { // else it is all as before
          mark = (answer.headers.get("ETag") || "").replaceAll('"', "");
          show(await answer.json());
        }
        if (lost) said.textContent = "";
        lost = false;
      } catch {
        lost = true;
        said.textContent = "The server does not answer; this may be old.";
      }
    }
    setTimeout(ask, 1000 * SECONDS);
  };
  setTimeout(ask, 1000 * SECONDS);

  cards.addEventListener("click", async (event) => {
    const button = event.target.closest("button.stop");
    if (!button) return;
    const card = button.closest(".card");
    if (!confirm(`Stop ${card.querySelector("h2").textContent}? It can go on later.`)) return;
    button.disabled = true;
    try {
      const answer = await fetch(`/stop/${card.dataset.run}`, { method: "POST" });
      said.textContent = (await answer.json()).message;
      if (!answer.ok) button.disabled = false;
    } catch {
      said.textContent = "The server does not answer.";
    }
  });
})();
