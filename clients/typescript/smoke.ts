// The main job by the client that @hey-api/openapi-ts made: `node smoke.js URL`. Signs up, uploads, runs into
// the typed 402s, pays at the checkout of the development's Stripe, and downloads what was uploaded.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { readFile } from "node:fs/promises";
import { setTimeout } from "node:timers/promises";
import { createClient } from "./hey-api/client/index.js";
import * as api from "./hey-api/index.js";

const baseUrl = process.argv[2];
assert(baseUrl, "the server's address");
const anonymous = createClient({ baseUrl });

const refused = await api.signUp({
  client: anonymous,
  body: { email: "no address", password: "x", name: "", workspace_name: "W" },
});
assert.equal(refused.error?.code, "validation_failed");
if (refused.error?.code === "validation_failed") assert(refused.error.errors.length > 0);

const signed = await api.signUp({
  client: anonymous,
  body: {
    email: `bob-${randomUUID()}@example.com`,
    password: "correct horse battery staple",
    name: "Bob",
    workspace_name: "Bob's Studio",
  },
  throwOnError: true,
});
const access: api.Access = signed.data.workspace.access;
assert.equal(access, "full");
const client = createClient({ baseUrl, auth: signed.data.access_token });

const headers = { "Idempotency-Key": randomUUID() };
const library = await api.createLibrary({ client, headers, body: { name: "Weddings" }, throwOnError: true });
assert.equal(library.response.headers.get("location"), `/v1/libraries/${library.data.id}`);
const again = await api.createLibrary({ client, headers, body: { name: "Weddings" }, throwOnError: true });
assert.deepEqual(again.data, library.data);
const gallery = await api.createGallery({
  client,
  body: { library_id: library.data.id, name: "Emma and Noah" },
  throwOnError: true,
});

const original = await readFile("bins/rawdrive/assets/photos/coffee.jpg");
const photo = await api.uploadPhoto({
  client,
  path: { id: gallery.data.id },
  body: { file: new File([original], "coffee.jpg", { type: "image/jpeg" }) },
  throwOnError: true,
});
assert.equal(photo.data.filename, "coffee.jpg");
assert.equal(photo.data.size_bytes, original.length);
assert.equal(photo.data.content_type, "image/jpeg");

// The same as raw bytes of their own type, which the generator does not know of: it takes the form for the only body.
const raw = await api.uploadPhoto({
  client,
  path: { id: gallery.data.id },
  query: { filename: "raw.jpg" },
  body: new Blob([original]) as never,
  bodySerializer: null,
  headers: { "Content-Type": "image/jpeg" } as never,
  throwOnError: true,
});
assert.equal(raw.data.sha256, photo.data.sha256);

// What the plan does not allow is typed by its code.
const denied = await api.analyzePhoto({ client, path: { id: photo.data.id } });
assert(denied.error?.code === "quota_exceeded", JSON.stringify(denied.error));
const missing: number = denied.error.current + denied.error.requested - denied.error.limit;
assert.equal(missing, 1);
assert.equal(denied.error.metric, "ai_analysis");
const look = { display_name: "Bob's Studio", primary_color: "#1f6f78" };
const plain = await api.saveBranding({ client, body: look });
assert(plain.error?.code === "feature_not_available", JSON.stringify(plain.error));
assert.equal(plain.error.feature, "custom_branding");

const order = {
  plan: "professional",
  interval: "month",
  success_url: "https://studio.example.com/done",
  cancel_url: "https://studio.example.com/back",
} as const;
const page = await api.openCheckout({ client, body: order, throwOnError: true });
// A person pays there: the one thing that is not the API's.
const paid = await fetch(page.data.url, {
  method: "POST",
  body: new URLSearchParams({ card: "4242424242424242" }),
  redirect: "manual",
});
assert.equal(paid.headers.get("location"), order.success_url);
for (let tries = 0; ; tries++) {
  const { data } = await api.getSubscription({ client, throwOnError: true });
  if (data.status === "active" && data.plan === "professional") break;
  assert(tries < 100, JSON.stringify(data));
  await setTimeout(100);
}

const analysis = await api.analyzePhoto({ client, path: { id: photo.data.id }, throwOnError: true });
assert.equal(analysis.data.photo_id, photo.data.id);
const whole = await api.downloadPhoto({ client, path: { id: photo.data.id }, throwOnError: true });
assert(whole.data instanceof Blob);
assert.deepEqual(Buffer.from(await whole.data.arrayBuffer()), original);
const part = await api.downloadPhoto({
  client,
  path: { id: photo.data.id },
  headers: { Range: "bytes=10-19" },
  throwOnError: true,
});
assert.equal(part.response.status, 206);
assert(part.data instanceof Blob);
assert.deepEqual(Buffer.from(await part.data.arrayBuffer()), original.subarray(10, 20));
const gone = await api.getPhoto({ client, path: { id: `pho_${"0".repeat(32)}` } });
assert.equal(gone.error?.code, "not_found");
console.log("typescript: signed up, uploaded, refused, paid, analysed, downloaded");
