// One page with everything in it, dist/report.html, which the C++ side fills with a title and the data.
import { createHash } from "node:crypto";
import { readFile, rm, writeFile } from "node:fs/promises";
import { defineConfig } from "vite";
import { viteSingleFile } from "vite-plugin-singlefile";

// The page fetches nothing and runs no script but its own, which is named by its hash, and the browser holds it to that.
const policy = (script) =>
  `<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; ` +
  `script-src 'sha256-${createHash("sha256").update(script).digest("base64")}'; base-uri 'none'; form-action 'none'" />`;

const finish = {
  name: "finish",
  async closeBundle() {
    const page = await readFile("dist/index.html", "utf8");
    const script = page.match(/<script type="module"[^>]*>([^]*?)<\/script>/)[1];
    await writeFile("dist/report.html", page.replace("<!--content-security-policy-->", policy(script)));
    await rm("dist/index.html");
  },
};

export default defineConfig({
  esbuild: { jsx: "automatic", jsxImportSource: "preact", legalComments: "none" },
  plugins: [viteSingleFile({ removeViteModuleLoader: true }), finish],
});
