function describe(image) {
  const [best, own] = image.probabilities.map((value) => value.toFixed(2));
  const label = data.classes[image.label], predicted = data.classes[image.predicted];
  const right = image.label === image.predicted;
  const words = right ? `${label} ${best}, right` : `${label} taken for ${predicted} ${best}`;
  return { boxes: [], words, list: right ? [] : [`its own class has ${own}, at place ${image.rank}`] };
}

const shots = gallery(describe);
function choose() {
  const [label, taken] = ["of-class", "taken-for"].map((id) => document.getElementById(id).value);
  shots.show(data.images.filter((image) => (label === "" || image.label === +label) && (taken === "" || image.predicted === +taken)));
}
for (const id of ["of-class", "taken-for"]) document.getElementById(id).addEventListener("change", choose);
document.getElementById("filters").addEventListener("submit", (event) => event.preventDefault());
choose();
