/* What all pages do with scripts; without them everything can be read. */
"use strict";

/* Arrow keys turn to the page before or behind, where a page has such links and nothing else wants the keys. */
document.addEventListener("keydown", (event) => {
  if (event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) { return; }
  const rel = { ArrowLeft: "prev", ArrowRight: "next" }[event.key];
  if (!rel || event.target.closest("input, select, textarea, [tabindex='0']")) { return; }
  const link = document.querySelector(`main a[rel=${rel}]`);
  if (link) { event.preventDefault(); link.click(); }
});

/* How many were found is told to screen readers, whose live region must stay where it is. */
document.addEventListener("htmx:after:swap", () => {
  const told = document.querySelector("[data-told]"), region = document.getElementById("told");
  if (told && region) { region.textContent = told.textContent; }
});
