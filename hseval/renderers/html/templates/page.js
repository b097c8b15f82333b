"use strict";
(() => {
  const queryAll = (root, selector) => Array.from(root.querySelectorAll(selector));

  // Plots are static SVG at first; they become interactive when they scroll into view.
  const makeInteractive = (plot) => {
    const spec = JSON.parse(plot.querySelector("script").textContent);
    const canvas = plot.querySelector(".canvas");
    // ast: expressions are interpreted, so that the page's policy need not allow eval.
    window.vegaEmbed(canvas, spec, { renderer: "svg", actions: false, mode: "vega-lite", ast: true })
      .then((result) => { plot.dataset.live = "yes"; plot.view = result.view; })
      .catch((error) => console.error(error));
  };
  const plots = queryAll(document, ".plot");
  if (plots.length && window.vegaEmbed) {
    const observer = new IntersectionObserver((entries) => {
      entries.filter((entry) => entry.isIntersecting).forEach((entry) => {
        observer.unobserve(entry.target);
        makeInteractive(entry.target);
      });
    }, { rootMargin: "300px" });
    plots.forEach((plot) => observer.observe(plot));
  }

  // One slider moves the films of all cubes in its section.
  queryAll(document, ".films").forEach((films) => {
    const slider = films.querySelector("input[type=range]");
    const names = JSON.parse(films.querySelector("script").textContent);
    const output = films.querySelector("output");
    const images = queryAll(films, ".film img");
    const update = () => {
      const name = names[slider.value];
      films.style.setProperty("--band", slider.value);
      slider.setAttribute("aria-valuetext", name);
      output.textContent = name;
      images.forEach((image) => { image.alt = `${image.dataset.id} at ${name}`; });
    };
    slider.addEventListener("input", update);
    update();
  });

  // Tables sort by the data values of their cells; empty values come last.
  const getValue = (row, column) => row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
  const compare = (first, second, sign) => {
    if (first === "" || second === "") return (first === "") - (second === "");
    const a = Number(first), b = Number(second);
    return sign * (Number.isNaN(a) || Number.isNaN(b) ? first.localeCompare(second) : a - b);
  };
  queryAll(document, "table.sortable").forEach((table) => {
    const headings = queryAll(table, "thead th");
    headings.forEach((heading, column) => heading.querySelector("button")?.addEventListener("click", () => {
      const sign = heading.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      headings.forEach((other) => other.hasAttribute("aria-sort") && other.setAttribute("aria-sort", "none"));
      heading.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
      const body = table.tBodies[0];
      Array.from(body.rows).sort((a, b) => compare(getValue(a, column), getValue(b, column), sign))
        .forEach((row) => body.append(row));
    }));
  });
})();
