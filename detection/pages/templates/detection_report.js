// Counts at the slider's threshold, as detection/pages/outcomes.py counts them.
const [FOUND, IGNORED, PLACE, CLASS, BOTH, DUPLICATE, BACKGROUND] = [0, 1, 2, 3, 4, 5, 6];
const KINDS = 7, SIZES = 3, FATES = 4;
const NAMES = ["found", "ignored", "badly placed", "wrong class", "wrong class, badly placed", "duplicate", "background"];
const count = data.classes.length;
const scores = unpacked(data.detections.scores, "f32");
const codes = unpacked(data.detections.codes, "u8");
const objects = {
  labels: unpacked(data.objects.labels, "u16"),
  sizes: unpacked(data.objects.sizes, "u8"),
  found: unpacked(data.objects.found, "f32"),
  class: unpacked(data.objects.class, "f32"),
  place: unpacked(data.objects.place, "f32"),
  taken: unpacked(data.objects.taken, "i32"),
};
for (const image of data.images) {
  Object.assign(image, {
    boxes: unpacked(image.boxes, "u16"), scores: unpacked(image.scores, "f32"),
    labels: unpacked(image.labels, "u16"), kinds: unpacked(image.kinds, "u8"), on: unpacked(image.on, "i32"),
  });
}
const cells = (name) => [...document.querySelectorAll(`[data-${name}]`)];
const share = (part, whole) => (whole ? (part / whole).toFixed(3) : "-");
let threshold = Math.fround(data.threshold);

function counted() {
  const kinds = Array.from({ length: count }, () => new Int32Array(SIZES * KINDS));
  let row = 0;
  data.detections.lengths.forEach((length, label) => {
    for (const end = row + length; row < end; row++) if (scores[row] > threshold) kinds[label][codes[row]]++;
  });
  const fates = Array.from({ length: SIZES }, () => new Int32Array(FATES));
  const table = Array.from({ length: count + 1 }, () => new Int32Array(count + 2));
  objects.labels.forEach((label, place) => {
    const fate = objects.found[place] > threshold ? 0 : objects.class[place] > threshold ? 1 : objects.place[place] > threshold ? 2 : 3;
    fates[objects.sizes[place]][fate]++;
    table[label][[label, objects.taken[place], count, count + 1][fate]]++;
  });
  const of = (label, wanted) => kinds[label].reduce((sum, n, code) => sum + (wanted.includes(code % KINDS) ? n : 0), 0);
  for (let label = 0; label < count; label++) table[count][label] = of(label, [BOTH, BACKGROUND]);
  return { kinds, fates, table, of };
}

const total = (numbers) => numbers.reduce((sum, each) => sum + each, 0);

function measures(found, wrong, all) {
  return { found, false: wrong, missed: all - found, precision: share(found, found + wrong), recall: share(found, all) };
}

function fill() {
  const { kinds, fates, table, of } = counted();
  const ERRORS = [PLACE, CLASS, BOTH, DUPLICATE, BACKGROUND];
  const each = data.classes.map((_, label) => measures(of(label, [FOUND]), of(label, ERRORS), total(table[label])));
  const sums = measures(...[FOUND, ERRORS].map((wanted) => total(data.classes.map((_, label) => of(label, [wanted].flat())))), objects.labels.length);
  for (const cell of cells("count")) {
    cell.textContent = (cell.dataset.class ? each[cell.dataset.class] : sums)[cell.dataset.count];
  }
  for (const cell of cells("kind")) {
    const { kind, size, of: label } = cell.dataset;
    const rows = label ? [kinds[label]] : kinds;
    const codesOf = [0, 1, 2].filter((one) => !size || one === +size).map((one) => one * KINDS + +kind);
    cell.textContent = kind === "missed" ? (label ? each[label] : sums).missed : total(rows.flatMap((row) => codesOf.map((code) => row[code])));
  }
  for (const cell of cells("fate")) {
    const row = fates[cell.dataset.size];
    cell.textContent = cell.dataset.fate === "all" ? total(row) : row[cell.dataset.fate];
  }
  for (const mark of cells("mark")) {
    const { precision, recall } = each[mark.dataset.mark];
    mark.hidden = precision === "-" || recall === "-";
    mark.style.setProperty("--x", recall);
    mark.style.setProperty("--y", precision);
  }
  confusions(table);
}

function confusions(table) {
  for (const cell of cells("row")) {
    const row = table[cell.dataset.row], number = row[cell.dataset.column];
    cell.textContent = number || "";
    const part = number / Math.max(total(row), 1);
    const colour = cell.dataset.row === cell.dataset.column ? "var(--kind-0)" : "var(--kind-6)";
    cell.style.background = number ? `color-mix(in srgb, ${colour} ${Math.round(15 + 55 * part)}%, transparent)` : "";
  }
  const pairs = [];
  for (let row = 0; row < count; row++) {
    for (let column = 0; column < count; column++) if (row !== column && table[row][column]) pairs.push([table[row][column], row, column]);
  }
  pairs.sort((one, other) => other[0] - one[0]);
  const lines = pairs.slice(0, 12).map(([number, row, column]) =>
    element("li", { textContent: `${data.classes[row]} taken for ${data.classes[column]}: ${number} of ${total(table[row])}` }));
  document.getElementById("confused").replaceChildren(...(lines.length ? lines : [element("p", { textContent: count > 1 ? "No object was taken for another class." : "There is one class." })]));
}

// What is seen of an image: rows of detections above the threshold, objects that none of them found.
function seen(image) {
  const rows = [];
  while (rows.length < image.scores.length && image.scores[rows.length] > threshold) rows.push(rows.length);
  const found = new Set(rows.filter((row) => image.kinds[row] === FOUND).map((row) => image.on[row]));
  const missed = image.objects.map((_, place) => place).filter((place) => !image.objects[place][5] && !found.has(place));
  return { rows, found, missed };
}

const wrong = (kind) => kind > IGNORED;
const named = (label) => data.classes[label];

function describe(image) {
  const { rows, found, missed } = seen(image);
  const words = (row) => `${named(image.labels[row])} ${image.scores[row].toFixed(2)}`;
  const boxes = image.objects.map((object, place) => {
    const lost = missed.includes(place);
    return [...object.slice(0, 4), lost ? "missed" : "truth", "", lost ? named(object[4]) : ""];
  });
  for (const row of [...rows].reverse()) {
    boxes.push([...image.boxes.slice(4 * row, 4 * row + 4), "", `var(--kind-${image.kinds[row]})`, words(row)]);
  }
  const list = rows.map((row) => {
    const other = [CLASS, BOTH].includes(image.kinds[row]) ? `: ${named(image.objects[image.on[row]][4])}` : "";
    return `${words(row)}: ${NAMES[image.kinds[row]]}${other}`;
  });
  list.push(...missed.map((place) => `${named(image.objects[place][4])}: missed`));
  const false_ = rows.filter((row) => wrong(image.kinds[row])).length;
  return { boxes, list, words: `${found.size} found, ${false_} false, ${missed.length} missed` };
}

// Whether an image shows what the filters ask for; the class is a detection's or its object's.
function matches(image) {
  const label = document.getElementById("of-class").value, kind = document.getElementById("of-kind").value;
  const { rows, missed } = seen(image);
  const ofClass = (...labels) => label === "" || labels.includes(+label);
  const detected = rows.some((row) => {
    const its = image.kinds[row];
    const about = [CLASS, BOTH].includes(its) ? [image.objects[image.on[row]][4]] : [];
    return ofClass(image.labels[row], ...about) && (kind === "" || (kind === "mistake" ? wrong(its) : its === +kind));
  });
  const lost = ["", "mistake", "missed"].includes(kind) && missed.some((place) => ofClass(image.objects[place][4]));
  return detected || lost || (label === "" && kind === "") || (kind === "" && image.objects.some((object) => ofClass(object[4])));
}

const surest = (image) => Math.max(-Infinity, ...Array.from(image.scores).filter((_, row) => wrong(image.kinds[row])));
const ORDERS = {
  mistakes: (image) => { const { rows, missed } = seen(image); return -missed.length - rows.filter((row) => wrong(image.kinds[row])).length; },
  surest: (image) => -surest(image),
  name: (image) => image.id,
};

const shots = gallery(describe);
function choose() {
  const key = ORDERS[document.getElementById("order").value];
  const found = data.images.filter(matches).map((image) => [key(image), image]);
  found.sort(([one], [other]) => (one < other ? -1 : one > other ? 1 : 0));
  shots.show(found.map(([, image]) => image));
}

const slider = document.getElementById("threshold"), exact = document.getElementById("exact");
function move(text) {
  if (Number.isNaN(parseFloat(text))) return;
  threshold = Math.fround(parseFloat(text));
  if (slider.value !== text) slider.value = text;
  if (exact.value !== text) exact.value = text;
  fill();
  shots.redraw();
}
slider.addEventListener("input", () => move(slider.value));
exact.addEventListener("input", () => move(exact.value));
// Images are chosen anew when the slider rests: they would jump about under the hand.
for (const id of ["threshold", "exact", "of-class", "of-kind", "order"]) document.getElementById(id).addEventListener("change", choose);
document.getElementById("filters").addEventListener("submit", (event) => event.preventDefault());
fill();
choose();
