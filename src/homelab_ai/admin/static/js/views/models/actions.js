/** What can be done with a model, each as a call of the API. */

import { bytes } from "../../format.js";

function path(model, rest = "") {
  return `api/models/${encodeURIComponent(model.id)}${rest}`;
}

export function actionsOf({ api, confirm, toast }, known) {
  const call = async (method, where, body) => known.take(await api(method, where, body));
  return {
    load: (model) => call("POST", path(model, "/load")),
    unload: (model) => call("POST", path(model, "/unload")),
    pull: (model) => call("POST", path(model, "/pull")),
    enable: (model) => call("PATCH", path(model), { enabled: true }),
    disable: (model) => call("PATCH", path(model), { enabled: false }),
    makeDefault: (model) => call("PATCH", path(model), { default: true }),
    pin: (model) => call("PATCH", path(model), { keep_alive_minutes: -1 }),
    /** It stays loaded for as long as all models do. */
    unpin: (model) => call("PATCH", path(model), { keep_alive_minutes: null }),

    /** Asks first. Resolves to whether it was removed. */
    async remove(model) {
      const answer = await confirm({
        title: `Remove ${model.id}?`,
        text: "Requests for it are refused from now on. What it is answering is finished first.",
        action: "Remove",
        option: "Delete its downloaded files as well",
      });
      if (!answer) return false;
      const removed = await api("DELETE", `${path(model)}?purge=${answer.checked}`);
      known.drop(model.id);
      const freed = removed.purged_bytes ? `, and ${bytes(removed.purged_bytes)} of its files` : "";
      toast(`${model.id} is removed${freed}`, "good");
      return true;
    },
  };
}
