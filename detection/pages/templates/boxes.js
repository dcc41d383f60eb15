"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const TYPES = { f32: Float32Array, u8: Uint8Array, u16: Uint16Array, i32: Int32Array };

function unpacked(text, type) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  return new TYPES[type](bytes.buffer);
}

function element(name, properties = {}, ...children) {
  const made = document.createElement(name);
  Object.assign(made, properties);
  made.append(...children);
  return made;
}

function shape(name, attributes, text = "") {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.textContent = text;
  return made;
}

// A picture with boxes over it: [x1, y1, x2, y2, class of the rectangle, colour, words]; so many
// letters are as high as the picture's longer side.
function picture(image, boxes, lines) {
  const [width, height] = image.size;
  const view = shape("svg", { viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" });
  const letters = Math.max(width, height) / lines;
  const words = [];
  for (const [x1, y1, x2, y2, kind, colour, text] of boxes) {
    const place = { x: x1, y: y1, width: Math.max(x2 - x1, 1), height: Math.max(y2 - y1, 1) };
    view.append(shape("rect", { ...place, class: "under" }));
    view.append(shape("rect", { ...place, class: kind, ...(colour && { style: `stroke: ${colour}` }) }));
    if (text) {
      const y = y1 > letters * 1.2 ? y1 - letters * 0.3 : y1 + letters;
      words.push(shape("text", { x: x1 + letters * 0.2, y, "font-size": letters }, text));
    }
  }
  view.append(...words);
  const seen = element("img", { src: image.image, alt: "", width, height });
  return element("div", { className: "picture" }, seen, view);
}

// Draws images a page at a time; `describe` gives an image's boxes, words and list.
function gallery(describe) {
  const STEP = 24;
  const place = document.getElementById("gallery");
  const large = document.getElementById("large");
  let chosen = [], count = STEP;

  function draw() {
    place.replaceChildren(...chosen.slice(0, count).map((image) => {
      const about = describe(image);
      const words = element("span", { className: "words" }, element("b", { textContent: image.id }), ` ${about.words}`);
      const shot = element("button", { type: "button", className: "shot" }, picture(image, about.boxes, 26), words);
      shot.addEventListener("click", () => open(image));
      return shot;
    }));
    document.getElementById("more").hidden = count >= chosen.length;
    document.getElementById("shown-images").textContent =
      chosen.length ? `${chosen.length} of ${data.images.length} images` : "no image is like this";
  }

  function open(image) {
    const about = describe(image);
    large.querySelector("h3").textContent = `${image.id}: ${about.words}`;
    large.querySelector(".picture").replaceWith(picture(image, about.boxes, 60));
    large.querySelector(".picture").style.maxWidth = `calc(68vh * ${image.size[0] / image.size[1]})`;
    large.querySelector(".found").replaceChildren(...about.list.map((text) => element("li", { textContent: text })));
    large.showModal();
  }

  document.getElementById("more").addEventListener("click", () => { count += STEP; draw(); });
  return {
    show(images) { chosen = images; count = STEP; draw(); },
    redraw() { draw(); },
  };
}
