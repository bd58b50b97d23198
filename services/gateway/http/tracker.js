/* Volcanion Tracking for pages: views and events, each kept until it is stored. How to use it: docs/browser.md */
(function (w, d) {
  "use strict";
  const ROUTE = "beacon";
  /* a module has no currentScript */
  var script = d.currentScript || d.querySelector("script[type=module][data-key][src]"), nav = w.navigator;
  var options = script.dataset, name = options.name || "tracker", key = options.key || "";
  if (w[name]) return;
  var url = (options.host || new URL(".", script.src).href) + ROUTE + "?writeKey=" + encodeURIComponent(key);
  var MOST_WAITING = 500, MOST_BYTES = 60000, MOST_IN_BATCH = 100;
  var DELAY_MS = 2000, PATIENCE_MS = 30000, LONGEST_MS = 60000;

  /* localStorage may be forbidden or full: then what is noted lasts as long as the page. */
  function passing() {
    return Object.create({
      getItem: function (item) { return item in this ? this[item] : null; },
      setItem: function (item, value) { this[item] = value; },
      removeItem: function (item) { delete this[item]; }
    });
  }
  var store = passing();
  try { store = w.localStorage || store; } catch (e) { /* forbidden */ }
  function note(item, value) {
    try { store.setItem(item, value); } catch (e) {
      store = passing();
      store.setItem(item, value);
    }
  }
  function forget() {
    for (var i = 0; i < arguments.length; i++) store.removeItem(arguments[i]);
  }

  /* The queue: an item for each message, so that pages of one site can share it without a lock. A message that is sent
     twice, by two of them or after a lost answer, has the same messageId and is stored once. */
  var ANONYMOUS = "vt.anonymous", USER = "vt.user", OFF = "vt.off", QUEUE = "vt.queue." + key + ".";
  function queue() {
    return Object.keys(store).filter(function (item) { return item.indexOf(QUEUE) === 0; }).sort();
  }
  function drop(items) { forget.apply(null, items); }

  var asked = nav.globalPrivacyControl || nav.doNotTrack === "1" || w.doNotTrack === "1";
  var host = w.location.hostname;
  function has(list, item) { return list.split(/[\s,]+/).indexOf(item) >= 0; }
  var away = (options.domains && !has(options.domains, host)) ||
    (options.localhost === "false" && /^$|^127\.|^\[::1\]$|(^|\.)localhost$/.test(host));
  var silent = !key || away || store.getItem(OFF) || (asked && options.respectSignals !== "false");
  function leaveNothing() { drop(queue().concat(ANONYMOUS, USER)); }

  /* A UUID of version 4; crypto.randomUUID is missing on pages without https. */
  function id() {
    var text = "";
    w.crypto.getRandomValues(new Uint8Array(16)).forEach(function (byte, place) {
      if (place === 6) byte = byte & 15 | 64;
      if (place === 8) byte = byte & 63 | 128;
      text += (place > 3 && place < 11 && place % 2 === 0 ? "-" : "") + (byte + 256).toString(16).slice(1);
    });
    return text;
  }
  function anonymous() {
    if (!store.getItem(ANONYMOUS)) note(ANONYMOUS, id());
    return store.getItem(ANONYMOUS);
  }
  function size(text) { return new Blob([text]).size; }

  /* The next messages to send: their items and their body. */
  function batch(items) {
    var taken = [], texts = [], bytes = 100;
    for (var i = 0; i < items.length && taken.length < MOST_IN_BATCH; i++) {
      var text = store.getItem(items[i]);
      if (text === null) continue;
      bytes += size(text) + 1;
      if (taken.length && bytes > MOST_BYTES) break;
      taken.push(items[i]);
      texts.push(text);
    }
    return { items: taken, body: '{"sentAt":"' + new Date().toISOString() + '","batch":[' + texts.join() + "]}" };
  }

  var timer = 0, sending = [], failures = 0;
  function later(ms) {
    if (!timer) timer = setTimeout(function () { timer = 0; flush(); }, ms);
  }
  function flush() {
    var next = batch(queue());
    if (silent || sending.length || !next.items.length || nav.onLine === false) return;
    sending = next.items;
    var patience = new AbortController(), alarm = setTimeout(function () { patience.abort(); }, PATIENCE_MS);
    var request = { method: "POST", body: next.body, keepalive: true, credentials: "omit", signal: patience.signal };
    /* text needs no preflight */
    fetch(url, request).then(function (answer) {
      var final = answer.status >= 400 && answer.status < 500 && answer.status !== 408 && answer.status !== 429;
      if (!answer.ok && !final) return 1000 * Number(answer.headers.get("Retry-After")) || 1;
      drop(next.items);
      return 0;
    }, function () { return 1; }).then(function (wait) {
      clearTimeout(alarm);
      sending = [];
      failures = wait ? failures + 1 : 0;
      if (wait) later(Math.max(wait, Math.min(LONGEST_MS, 500 * Math.pow(2, failures))));
      else if (queue().length) later(DELAY_MS);
    });
  }
  /* The page may be over: what is not under way is given to the browser, which sends it when the page is gone. Nobody
     hears whether it arrived, so it stays in the queue, for the next page to send and have stored for certain. */
  var given = [];
  function leave() {
    if (silent || nav.onLine === false || !nav.sendBeacon) return;
    var items = queue().filter(function (item) { return sending.concat(given).indexOf(item) < 0; });
    for (var next = batch(items); next.items.length && nav.sendBeacon(url, next.body); next = batch(items)) {
      given = given.concat(next.items);
      items = items.slice(next.items.length);
    }
  }

  /* What of an address is sent: without #…, and of the query only what data-query allows. Both may hold secrets. */
  function clean(address) {
    var parts = address.split("#")[0].split("?"), allowed = options.query || "true";
    var query = parts.slice(1).join("?");
    if (allowed !== "true") {
      query = query.split("&").filter(function (pair) { return has(allowed, pair.split("=")[0]); }).join("&");
    }
    return parts[0] + (query && "?" + query);
  }

  var referrer = d.referrer, seen = null, early = [];
  function send(type, message) {
    if (silent) return;
    /* a page that is rendered ahead may never be opened */
    if (d.prerendering) {
      early.push([type, message]);
      return;
    }
    var url = clean(w.location.href), path = w.location.pathname;
    var page = { url: url, path: path, search: url.replace(/^[^?]*/, ""), title: d.title, referrer: clean(referrer) };
    message.type = type;
    message.messageId = id();
    message.anonymousId = anonymous();
    message.userId = store.getItem(USER);
    message.timestamp = new Date().toISOString();
    message.context = {
      page: page,
      locale: nav.language,
      screen: { width: w.screen.width, height: w.screen.height },
      library: { name: "volcanion.js", version: "1" }
    };
    if (type === "page") message.properties = Object.assign({}, page, message.properties);
    var text = "";
    try { text = JSON.stringify(message); } catch (e) { /* a circle, a BigInt */ }
    if (!text || size(text) > MOST_BYTES) {
      console.error(name + ": " + type + " is not sent: no JSON, or more than " + MOST_BYTES + " bytes");
      return;
    }
    note(QUEUE + Date.now() + "." + message.messageId, text);
    var items = queue();
    drop(items.slice(0, Math.max(0, items.length - MOST_WAITING)));
    later(DELAY_MS);
  }
  function view() {
    var now = w.location.pathname + w.location.search + (options.hash === "true" ? w.location.hash : "");
    if (now === seen) return;
    if (seen !== null) referrer = w.location.origin + seen;
    seen = now;
    send("page", {});
  }

  /* what programs say when they have no id; the gateway has a longer list (docs/gateway.md) */
  var NOBODY = new RegExp("^[\\s\"'`]*(undefined|null|nan|none|true|false|0|anonymous|guest|user_?id|" +
    "\\[object object\\]|[0-]{32,36})?[\\s\"'`]*$", "i");

  w[name] = {
    track: function (event, properties) { send("track", { event: event, properties: properties }); },
    page: function (properties) { send("page", { properties: properties }); },
    identify: function (userId, traits) {
      if (silent) return;
      var before = store.getItem(USER);
      if (NOBODY.test(typeof userId === "number" ? userId : typeof userId === "string" ? userId : "")) {
        console.error(name + ": identify is ignored: " + userId + " is no id of a user");
        return;
      }
      if (before !== null && before !== String(userId)) forget(ANONYMOUS); /* another person */
      note(USER, String(userId));
      send("identify", { traits: traits });
    },
    reset: function () { forget(ANONYMOUS, USER); },
    flush: flush,
    optOut: function () { leaveNothing(); note(OFF, "1"); silent = true; },
    optIn: function () { forget(OFF); silent = !key || away; }
  };
  if (silent) leaveNothing();
  else anonymous(); /* now, for the next tab to find */

  d.addEventListener("prerenderingchange", function () {
    early.splice(0).forEach(function (call) { send(call[0], call[1]); });
  });
  w.addEventListener("online", flush);
  w.addEventListener("pagehide", leave);
  d.addEventListener("visibilitychange", function () { if (d.visibilityState === "hidden") leave(); });
  if (options.auto !== "false") {
    ["pushState", "replaceState"].forEach(function (change) {
      var original = w.history[change];
      w.history[change] = function () {
        var result = original.apply(this, arguments);
        setTimeout(view, 0); /* when the page has its new title */
        return result;
      };
    });
    w.addEventListener("popstate", view);
    w.addEventListener("hashchange", view);
    /* opened again by Back, as it was left */
    w.addEventListener("pageshow", function (event) {
      if (event.persisted) {
        seen = null;
        view();
      }
    });
    view();
  }
  if (queue().length) later(0);
})(window, document);
