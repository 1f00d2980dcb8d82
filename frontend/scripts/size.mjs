// What the first view costs: the gzipped script of index.html, of the words of a language and of the big screen, and
// everything that these import without waiting, against a budget. Charts come after it (Chart.vue). How much of it goes over
// the wire until that view is drawn, a browser measures (tests/frontend/test_pages.py).
import { readdirSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { gzipSync } from 'node:zlib'

const BUDGET = 350_000 // bytes of gzipped script
const dist = fileURLToPath(new URL('../dist/', import.meta.url))
const page = readFileSync(`${dist}index.html`, 'utf8')
const sizes = new Map()
const size = (name) => {
  if (!sizes.has(name)) sizes.set(name, gzipSync(readFileSync(dist + name), { level: 9 }).length)
  return sizes.get(name)
}

function follow(name, seen = new Set()) {
  if (seen.has(name)) return seen
  seen.add(name)
  for (const [, other] of readFileSync(dist + name, 'utf8').matchAll(/(?:from|import)\s*["']\.\/([^"']+\.js)["']/g)) follow(`assets/${other}`, seen)
  return seen
}
const entries = [...page.matchAll(/(?:src|href)="\/(assets\/[^"]+\.js)"/g)].map(([, name]) => name)
const overview = readdirSync(`${dist}assets`).filter((name) => /^Overview-[\w-]+\.js$/.test(name)).map((name) => `assets/${name}`)
if (!entries.length || overview.length !== 1) throw new Error(`expected index.html and one Overview-….js in dist/, got ${entries} and ${overview}`)
// the two languages are the two scripts that hold nothing but words: the larger counts
const languages = readdirSync(`${dist}assets`).filter((name) => /^(en|zh-CN|locales)-[\w-]+\.js$/.test(name)).map((name) => `assets/${name}`)
if (languages.length !== 2) throw new Error(`expected a script for each of two languages in dist/assets/, got ${languages}`)
languages.sort((a, b) => size(b) - size(a))

const seen = new Set()
for (const name of [...entries, ...overview, languages[0]]) follow(name, seen)
const total = [...seen].reduce((sum, name) => sum + size(name), 0)
for (const name of [...seen].sort((a, b) => size(b) - size(a))) console.log(String(size(name)).padStart(8), name)
console.log(String(total).padStart(8), `bytes gzipped of ${BUDGET}`)
process.exit(total > BUDGET ? 1 : 0)
