// Shows the galleries of the client whose token is in the page's address. All text of people is set as text,
// never as markup.
"use strict";

const token = new URLSearchParams(location.search).get("token") ?? "";
const base = `v1/shared/${encodeURIComponent(token)}`;
const viewable = ["image/jpeg", "image/png", "image/webp"];

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

function photo(gallery, item) {
  const name = element("span", { textContent: item.filename });
  if (gallery.download === "none") return element("li", {}, name);
  const href = `${base}/photos/${item.id}/content`;
  const shown = viewable.includes(item.content_type)
    ? [element("img", { src: href, alt: "", loading: "lazy" })]
    : [];
  return element("li", {}, element("a", { href }, ...shown, name));
}

function section(gallery) {
  const list = element("ul", { className: "photos" });
  const button = element("button", { type: "button", textContent: "Show photos" });
  let cursor = "";
  button.addEventListener("click", async () => {
    button.disabled = true;
    try {
      const page = await get(`/galleries/${gallery.id}/photos?limit=50${cursor}`);
      list.append(...page.items.map((item) => photo(gallery, item)));
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
