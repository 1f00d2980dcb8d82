// What the first view costs: the gzipped script of index.html and everything it imports without waiting, against a budget.
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { gzipSync } from 'node:zlib'

const BUDGET = 350_000 // bytes of gzipped script
const dist = fileURLToPath(new URL('../dist/', import.meta.url))
const page = readFileSync(`${dist}index.html`, 'utf8')
const seen = new Map()

function follow(name) {
  if (seen.has(name)) return
  const text = readFileSync(dist + name)
  seen.set(name, gzipSync(text, { level: 9 }).length)
  for (const [, other] of text.toString().matchAll(/(?:from|import)\s*["']\.\/([^"']+\.js)["']/g)) follow(`assets/${other}`)
}
for (const [, name] of page.matchAll(/(?:src|href)="\/(assets\/[^"]+\.js)"/g)) follow(name)
// the first page after a login is loaded at once too: Overview and what it needs, without the charts
const total = [...seen.values()].reduce((a, b) => a + b, 0)
for (const [name, size] of [...seen].sort((a, b) => b[1] - a[1])) console.log(String(size).padStart(8), name)
console.log(String(total).padStart(8), `bytes gzipped of ${BUDGET}`)
process.exit(total > BUDGET ? 1 : 0)
