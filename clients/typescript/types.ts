// The types of openapi-typescript with the client openapi-fetch: compiled, so that the document types what it should.

import createClient from "openapi-fetch";
import type { components, paths } from "./schema.js";

export async function whatWasDenied(baseUrl: string, token: string, gallery: string): Promise<string> {
  const client = createClient<paths>({ baseUrl, headers: { authorization: `Bearer ${token}` } });
  const { data, error } = await client.POST("/v1/galleries/{id}/photos", {
    params: { path: { id: gallery }, query: { filename: "a.jpg" }, header: { "Idempotency-Key": "k1" } },
    body: { file: "" },
    bodySerializer: () => new FormData(),
  });
  if (data) return data.sha256;
  switch (error.code) {
    case "quota_exceeded":
      // Known to be there, and to be a number, by the code alone.
      return `${error.metric} ${error.limit - error.current} ${error.upgrade_url}`;
    case "workspace_read_only":
      return error.since;
    case "validation_failed":
      return error.errors.map((one: components["schemas"]["FieldError"]) => one.field).join();
    default:
      return error.detail;
  }
}
