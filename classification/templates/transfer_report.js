const FILTERS = { "of-class": "labels", named: "wrong", missed: "missed" };

function describe(image) {
  const named = (labels) => labels.map((label) => data.classes[label]).join(", ");
  const words = [named(image.labels) || "no class"];
  if (image.wrong.length) words.push(`named wrongly: ${named(image.wrong)}`);
  if (image.missed.length) words.push(`missed: ${named(image.missed)}`);
  const told = [...new Set([...image.labels, ...image.wrong])];
  return { boxes: [], words: words.join("; "), list: told.map((label) => `${data.classes[label]}: score ${image.scores[label].toFixed(2)}`) };
}

const shots = gallery(describe);
function choose() {
  const chosen = Object.entries(FILTERS).map(([id, list]) => [list, document.getElementById(id).value]);
  shots.show(data.images.filter((image) => chosen.every(([list, label]) => label === "" || image[list].includes(+label))));
}
for (const id of Object.keys(FILTERS)) document.getElementById(id).addEventListener("change", choose);
document.getElementById("filters").addEventListener("submit", (event) => event.preventDefault());
choose();
