// Objects are [x1, y1, x2, y2, class, difficult, who finds it], detections [..., class, score, kind].
const SIDES = ["both", "only the first", "only the second", "neither"];
const NAMES = ["found", "ignored", "badly placed", "wrong class", "wrong class, badly placed", "duplicate", "background"];
const COLOURS = ["var(--kind-5)", "var(--kind-2)"];
const alone = (object) => !object[5] && (object[6] === 1 || object[6] === 2);

function describe(image) {
  const boxes = image.objects.map((object) => {
    const words = alone(object) ? `${data.classes[object[4]]}, ${SIDES[object[6]]}` : "";
    return [...object.slice(0, 4), words ? "missed" : "truth", "", words];
  });
  const list = image.objects.filter(alone).map((object) => `${data.classes[object[4]]}: found by ${SIDES[object[6]]}`);
  image.found.forEach((rows, side) => {
    for (const [x1, y1, x2, y2, label, score, kind] of [...rows].reverse()) {
      boxes.push([x1, y1, x2, y2, side ? "second" : "", COLOURS[side], `${data.classes[label]} ${score.toFixed(2)}`]);
    }
    for (const row of rows) list.push(`${side ? "second" : "first"}: ${data.classes[row[4]]} ${row[5].toFixed(2)}: ${NAMES[row[6]]}`);
  });
  const found = [1, 2].map((side) => image.objects.filter((object) => alone(object) && object[6] === side).length);
  return { boxes, list, words: `${found[0]} only by the first, ${found[1]} only by the second` };
}

const shots = gallery(describe);
function choose() {
  const label = document.getElementById("of-class").value, side = document.getElementById("of-side").value;
  const fits = (object) => alone(object) && (label === "" || object[4] === +label) && (side === "" || object[6] === +side);
  shots.show(data.images.filter((image) => image.objects.some(fits)));
}
for (const id of ["of-class", "of-side"]) document.getElementById(id).addEventListener("change", choose);
document.getElementById("filters").addEventListener("submit", (event) => event.preventDefault());
choose();
