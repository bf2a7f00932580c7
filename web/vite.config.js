// One page with everything in it, dist/report.html, which the C++ side fills with a title and the data.
import { createHash } from "node:crypto";
import { readFile, rm, writeFile } from "node:fs/promises";
import { defineConfig } from "vite";
import { viteSingleFile } from "vite-plugin-singlefile";

// Names the page's own script in its Content-Security-Policy by its hash, so that no other can run.
const finish = {
  name: "finish",
  async closeBundle() {
    const page = await readFile("dist/index.html", "utf8");
    const script = page.match(/<script type="module"[^>]*>([^]*?)<\/script>/)[1];
    const hash = createHash("sha256").update(script).digest("base64");
    await writeFile("dist/report.html", page.replace("{{script-hash}}", `'sha256-${hash}'`));
    await rm("dist/index.html");
  },
};

export default defineConfig({
  esbuild: { jsx: "automatic", jsxImportSource: "preact", legalComments: "none" },
  plugins: [viteSingleFile({ removeViteModuleLoader: true }), finish],
});
