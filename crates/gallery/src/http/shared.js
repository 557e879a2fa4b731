// Shows the galleries of the client whose token is in the page's address. All text of people is set as text,
// never as markup.
"use strict";

const token = new URLSearchParams(location.search).get("token") ?? "";
const base = `v1/shared/${encodeURIComponent(token)}`;
function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

async function get(path) {
  const answer = await fetch(base + path, { headers: { accept: "application/json" } });
  if (!answer.ok) throw new Error(String(answer.status));
  return answer.json();
}

// One photo at a time, as large as the screen: its rendition for screens, never its original.
const lightbox = (() => {
  const image = element("img", { alt: "" });
  const caption = element("p");
  const button = (label, text) => element("button", { type: "button", ariaLabel: label, textContent: text });
  const [back, close, on] = [button("Previous photo", "‹"), button("Close", "×"), button("Next photo", "›")];
  const dialog = element("dialog", {}, image, caption, element("nav", {}, back, close, on));
  let [photos, at] = [[], 0];
  const turn = (by) => show(photos, (at + by + photos.length) % photos.length);
  function show(all, index) {
    [photos, at] = [all, index];
    const { gallery, item } = photos[at];
    const { url, width, height } = item.renditions.web;
    // The one before is not seen under the new one's name.
    image.removeAttribute("src");
    Object.assign(image, { width, height, alt: item.filename, src: url });
    const name = element("span", { textContent: item.filename });
    const saved = gallery.download === "none" ? [] : [" ", download(item)];
    caption.replaceChildren(name, ...saved);
    back.hidden = on.hidden = photos.length < 2;
    if (!dialog.open) dialog.showModal();
  }
  back.addEventListener("click", () => turn(-1));
  on.addEventListener("click", () => turn(1));
  close.addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close();
  });
  dialog.addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft") turn(-1);
    if (event.key === "ArrowRight") turn(1);
  });
  document.body.append(dialog);
  return show;
})();

function download(item) {
  return element("a", { href: `${base}/photos/${item.id}/content`, download: "", textContent: "Download" });
}

// `shown` are the photos of the gallery that the lightbox leads through.
function photo(gallery, item, shown) {
  const name = element("span", { textContent: item.filename });
  const saved = gallery.download === "none" ? [] : [download(item)];
  const { status, thumb } = item.renditions;
  if (thumb === null) {
    const text = status === "pending" ? "This photo is being prepared." : "This photo cannot be shown here.";
    return element("li", {}, element("div", { className: "blank", textContent: text }), name, ...saved);
  }
  // With its sides, so that nothing moves when it arrives.
  const { url, width, height } = thumb;
  const image = element("img", { loading: "lazy", decoding: "async", width, height, alt: item.filename, src: url });
  const button = element("button", { type: "button", className: "photo" }, image);
  const index = shown.push({ gallery, item }) - 1;
  button.addEventListener("click", () => lightbox(shown, index));
  return element("li", {}, button, name, ...saved);
}

function section(gallery) {
  const list = element("ul", { className: "photos" });
  const button = element("button", { type: "button", textContent: "Show photos" });
  const shown = [];
  let cursor = "";
  button.addEventListener("click", async () => {
    button.disabled = true;
    try {
      const page = await get(`/galleries/${gallery.id}/photos?limit=50${cursor}`);
      list.append(...page.items.map((item) => photo(gallery, item, shown)));
      button.hidden = page.next_cursor === null;
      button.textContent = "More";
      cursor = `&cursor=${encodeURIComponent(page.next_cursor ?? "")}`;
    } catch {
      button.textContent = "Try again";
    }
    button.disabled = false;
  });
  const count = `${gallery.photo_count} ${gallery.photo_count === 1 ? "photo" : "photos"}`;
  return element(
    "section", {},
    element("h2", { textContent: gallery.name }), element("p", { textContent: count }), list, button,
  );
}

function show({ workspace, branding, client, galleries }) {
  const name = branding?.display_name ?? workspace.name;
  document.title = name;
  const head = [element("h1", { textContent: name })];
  if (branding) {
    document.documentElement.style.setProperty("--accent", branding.primary_color);
    if (branding.has_logo) {
      const logo = element("img", { src: `${base}/logo`, alt: "" });
      logo.addEventListener("error", () => logo.remove());
      head.unshift(logo);
    }
    if (branding.website) {
      head.push(element("p", {}, element("a", { href: branding.website, rel: "noopener", textContent: branding.website })));
    }
  }
  document.querySelector("header").replaceChildren(...head);
  const greeting = galleries.length === 0
    ? `Hello ${client.name}, there is no gallery for you at the moment.`
    : `Hello ${client.name}, these are your galleries.`;
  document.querySelector("main").replaceChildren(element("p", { textContent: greeting }), ...galleries.map(section));
}

get("").then(show, (error) => {
  document.getElementById("state").textContent = error.message === "404"
    ? "This link is not valid any more. Ask the photographer for a new one."
    : "Your galleries cannot be shown right now. Try again in a moment.";
});
