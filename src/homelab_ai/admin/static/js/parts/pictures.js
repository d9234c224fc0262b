/** The pictures that are to be described: dropped, pasted or chosen files, and addresses, each with a preview. */

import { h, text } from "../dom.js";
import { icon } from "../icons.js";
import { field } from "./fields.js";

export class Pictures {
  #items = [];
  #list = h("ul", { class: "pictures", "aria-label": "Pictures to describe" });
  #told = h("p", { role: "status", class: "fine breaks" });

  constructor() {
    const chooser = h("input", {
      type: "file",
      accept: "image/*",
      multiple: true,
      hidden: true, // the button is what is seen, and has the focus
      onchange: () => {
        this.addFiles(chooser.files);
        chooser.value = "";
      },
    });
    const url = h("input", {
      inputmode: "url",
      name: "picture-address",
      placeholder: "https://example.com/cat.jpg",
      onkeydown: (event) => {
        if (event.key !== "Enter") return;
        event.preventDefault(); // which would send the form
        add();
      },
    });
    const add = () => {
      if (this.addAddress(url.value.trim())) url.value = "";
    };
    const over = (event, isOver) => {
      event.preventDefault();
      zone.classList.toggle("over", isOver);
    };
    const zone = h(
      "div",
      {
        class: "dropzone",
        ondragover: (event) => over(event, true),
        ondragleave: (event) => over(event, false),
        ondrop: (event) => {
          over(event, false);
          this.addFiles(event.dataTransfer.files);
        },
      },
      icon("image"),
      h("p", {}, "Drop pictures here, paste one, or"),
      h("button", { type: "button", onclick: () => chooser.click() }, "Choose files"),
      chooser,
    );
    this.element = h(
      "div",
      { class: "picking" },
      zone,
      h(
        "div",
        { class: "joined" },
        field("Or the address of one", url),
        h("button", { type: "button", onclick: add }, "Add"),
      ),
      this.#told,
      this.#list,
    );
  }

  /** In the order in which they were added: `value`, a file or an address; its `name`; and `preview()`, an element. */
  get items() {
    return [...this.#items];
  }

  /** Take pictures from the clipboard for as long as that is wanted. Returns what ends that. */
  listenForPaste() {
    const take = (event) => {
      if (!this.element.getClientRects().length || !event.clipboardData?.files.length) return;
      event.preventDefault();
      this.addFiles(event.clipboardData.files);
    };
    document.addEventListener("paste", take);
    return () => document.removeEventListener("paste", take);
  }

  addFiles(files) {
    for (const file of files) this.#add(file, file.name, URL.createObjectURL(file));
  }

  /** Returns whether that is an address. */
  addAddress(address) {
    if (!/^https?:\/\/./i.test(address)) {
      this.#tell("An address begins with http:// or https://");
      return false;
    }
    this.#add(address, address, null);
    return true;
  }

  #add(value, name, source) {
    const item = { value, name, source, preview: () => preview(source) };
    item.element = h(
      "li",
      {},
      item.preview(),
      h("span", { class: "name", title: name }, name),
      h("button", { type: "button", "aria-label": `Remove ${name}`, onclick: () => this.#remove(item) }, "Remove"),
    );
    this.#items.push(item);
    this.#list.append(item.element);
    this.#tell(`Added ${name}`);
  }

  #remove(item) {
    this.#items = this.#items.filter((each) => each !== item);
    item.element.remove();
    if (item.source) URL.revokeObjectURL(item.source);
    this.#tell(`Removed ${item.name}`);
  }

  #tell(words) {
    text(this.#told, words);
  }
}

/** The picture, small. One of another host is not loaded by this page, and some kinds no browser shows. */
function preview(source) {
  const none = h("span", { class: "no-preview" }, icon("image"));
  if (!source) return none;
  const image = h("img", { src: source, alt: "", onerror: () => image.replaceWith(none) });
  return image;
}
