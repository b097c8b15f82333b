"use strict";
(() => {
  const every = (where, what) => Array.from(where.querySelectorAll(what));

  // Plots stand in the page as drawings; they become interactive when they come into view.
  const enliven = (plot) => {
    const spec = JSON.parse(plot.querySelector("script").textContent);
    const canvas = plot.querySelector(".canvas");
    window.vegaEmbed(canvas, spec, { renderer: "svg", actions: false, mode: "vega-lite" })
      .then((found) => { plot.dataset.live = "yes"; plot.view = found.view; })
      .catch((error) => console.error(error));
  };
  const plots = every(document, ".plot");
  if (plots.length && window.vegaEmbed) {
    const watch = new IntersectionObserver((seen) => seen.filter((one) => one.isIntersecting).forEach((one) => {
      watch.unobserve(one.target);
      enliven(one.target);
    }), { rootMargin: "300px" });
    plots.forEach((plot) => watch.observe(plot));
  }

  // One slider moves the films of all cubes beside it.
  every(document, ".films").forEach((films) => {
    const slider = films.querySelector("input[type=range]");
    const names = JSON.parse(films.querySelector("script").textContent);
    const output = films.querySelector("output");
    const images = every(films, ".film img");
    const show = () => {
      const name = names[slider.value];
      films.style.setProperty("--band", slider.value);
      slider.setAttribute("aria-valuetext", name);
      output.textContent = name;
      images.forEach((image) => { image.alt = `${image.dataset.id} at ${name}`; });
    };
    slider.addEventListener("input", show);
    show();
  });

  // Tables sort by the numbers behind their cells; what has none comes last.
  const value = (row, column) => row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
  const order = (one, other, sign) => {
    if (one === "" || other === "") return (one === "") - (other === "");
    const a = Number(one), b = Number(other);
    return sign * (Number.isNaN(a) || Number.isNaN(b) ? one.localeCompare(other) : a - b);
  };
  every(document, "table.sortable").forEach((table) => {
    const heads = every(table, "thead th");
    heads.forEach((head, column) => head.querySelector("button")?.addEventListener("click", () => {
      const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      heads.forEach((each) => each.hasAttribute("aria-sort") && each.setAttribute("aria-sort", "none"));
      head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
      const body = table.tBodies[0];
      Array.from(body.rows).sort((a, b) => order(value(a, column), value(b, column), sign))
        .forEach((row) => body.append(row));
    }));
  });
})();
