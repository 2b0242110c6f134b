"use strict";
(() => {
  const root = document.documentElement;
  const button = document.getElementById("theme");
  const wanted = matchMedia("(prefers-color-scheme: dark)");
  const follow = () => { root.dataset.theme = wanted.matches ? "dark" : "light"; };
  wanted.addEventListener("change", follow);
  button.hidden = false;
  button.addEventListener("click", () => {
    root.dataset.theme = root.dataset.theme === "dark" ? "light" : "dark";
  });

  for (const block of document.querySelectorAll(".samples")) {
    const list = block.querySelector(".list");
    const cards = [...list.children];
    const search = block.querySelector("[name=search]");
    const order = block.querySelector("[name=order]");
    const engine = block.querySelector("[name=engine]");
    const differ = block.querySelector("[name=differ]");
    const count = block.querySelector(".count");
    const more = block.querySelector(".more");
    const page = Number(block.dataset.page);
    let limit = page;

    const score = (card, who, axis) => {
      const chip = [...card.querySelectorAll("[data-axis]")].find(
        (c) => c.dataset.axis === axis && c.dataset.engine === who);
      return chip ? Number(chip.dataset.value) : NaN;
    };
    const answers = (card) => [...card.querySelectorAll(".said")].map((s) => s.textContent);
    const matches = (card) => card.textContent.toLowerCase().includes(search.value.trim().toLowerCase())
      && (!differ.checked || new Set(answers(card)).size > 1);

    const show = () => {
      const [axis, way] = order.value ? [order.value.slice(1), order.value[0] === "-" ? -1 : 1] : ["", 0];
      const sorted = axis ? cards.map((card) => [score(card, engine.value, axis), card])
        .sort(([a], [b]) => Number.isNaN(a) - Number.isNaN(b) || way * (a - b) || 0).map(([, card]) => card) : cards;
      engine.hidden = !axis;
      let kept = 0;
      for (const card of sorted) {
        const match = matches(card);
        kept += match;
        card.hidden = !match || kept > limit;
        list.append(card);
      }
      count.textContent = `${Math.min(kept, limit)} of ${kept} shown`;
      more.hidden = kept <= limit;
    };
    const again = () => { limit = page; show(); };
    search.addEventListener("input", again);
    for (const control of [order, engine, differ]) control.addEventListener("change", again);
    more.addEventListener("click", () => { limit += page; show(); });
    block.querySelector(".filters").hidden = false;
    show();
  }
})();
