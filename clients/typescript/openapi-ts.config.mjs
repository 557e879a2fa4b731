// Node's own module resolution wants the endings of files in imports.
export default {
  input: "./docs/openapi.json",
  output: {
    path: process.env.RAWDRIVE_CLIENT ?? "rawdrive",
    module: { extension: ".js" },
  },
  plugins: ["@hey-api/client-fetch"],
};
