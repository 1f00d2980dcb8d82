// Where the words of faces stand in a picture, so that none covers another; and a face with its words, drawn on a canvas.

export interface Rect { x: number; y: number; width: number; height: number }
export interface Marked {
  box: Rect
  full: number // width of its words
  short: number // width of its sign and figure alone
}
export interface Label extends Rect { words: 'full' | 'short' }

const meets = (a: Rect, b: Rect): boolean => a.x < b.x + b.width && b.x < a.x + a.width && a.y < b.y + b.height && b.y < a.y + a.height

/** A place for each, or null where there is none left: above its box, below it, inside, else in the nearest free row.
 *  Words that find no place at the box itself are shortened; a face keeps its words off other faces as long as it can. */
export function arranged(faces: Marked[], height: number, within: Rect): (Label | null)[] {
  const placed: (Label | null)[] = faces.map(() => null)
  const taken: Rect[] = []
  // from the top left: who stands lower finds out what is taken above
  const order = faces.map((_, i) => i).sort((a, b) => faces[a]!.box.y - faces[b]!.box.y || faces[a]!.box.x - faces[b]!.box.x)
  for (const i of order) {
    const { box, full, short } = faces[i]!
    const others = faces.filter((_, j) => j !== i).map((one) => one.box)
    const at = (words: Label['words'], y: number, right: boolean): Label => {
      const width = words === 'full' ? full : short
      const x = Math.max(within.x, Math.min(right ? box.x + box.width - width : box.x, within.x + within.width - width))
      return { x, y, width, height, words }
    }
    const fits = (one: Label, clear: boolean): boolean =>
      one.y >= within.y && one.y + one.height <= within.y + within.height && !taken.some((each) => meets(one, each)) && !(clear && others.some((each) => meets(one, each)))
    const rows = [box.y - height, box.y + box.height, box.y, box.y + box.height - height]
    const steps = Array.from({ length: Math.ceil(within.height / height) }, (_, n) => (n + 1) * height)
    const far = steps.flatMap((step) => [rows[0]! - step, rows[1]! + step])
    const tries = (['full', 'short'] as const).flatMap((words) => rows.flatMap((y) => [at(words, y, false), at(words, y, true)]))
    const found = tries.find((one) => fits(one, true)) ?? tries.find((one) => fits(one, false)) ?? far.map((y) => at('short', y, false)).find((one) => fits(one, false))
    if (!found) continue
    placed[i] = found
    taken.push(found)
  }
  return placed
}

export interface Face { box: readonly number[]; state: string; score: number } // box in shares of the picture

// colours on a picture, whatever the theme of the page
const TONES: Record<string, string> = { worn: '#2fd19b', incorrect: '#ffb14a', none: '#ff5c6b', unknown: '#c5ccd2' }
const SIGNS: Record<string, string> = { worn: '✓', incorrect: '!', none: '✕', unknown: '?' }

/** Faces with their words over a picture that lies at `on`; `scale`: canvas pixels of a CSS pixel. */
export function drawFaces(context: CanvasRenderingContext2D, faces: readonly Face[], on: Rect, scale: number, word: (state: string) => string): void {
  context.font = `600 ${12 * scale}px system-ui, sans-serif`
  context.textBaseline = 'middle'
  const told = faces.map(({ box: [x0 = 0, y0 = 0, x1 = 0, y1 = 0], state, score }) => {
    const short = `${SIGNS[state] ?? ''} ${Math.round(score * 100)}%`
    const full = `${SIGNS[state] ?? ''} ${word(state)} ${Math.round(score * 100)}%`
    const box = { x: on.x + x0 * on.width, y: on.y + y0 * on.height, width: (x1 - x0) * on.width, height: (y1 - y0) * on.height }
    const wide = (text: string): number => context.measureText(text).width + 8 * scale
    return { state, short, full, marked: { box, full: wide(full), short: wide(short) } }
  })
  const labels = arranged(told.map((one) => one.marked), 16 * scale, on)
  told.forEach(({ state, marked: { box } }) => {
    // a dark line around the bright one: it shows on a white wall too
    context.strokeStyle = 'rgba(6, 9, 11, .7)'
    context.lineWidth = 4 * scale
    context.strokeRect(box.x, box.y, box.width, box.height)
    context.strokeStyle = TONES[state] ?? '#c5ccd2'
    context.lineWidth = 2 * scale
    context.strokeRect(box.x, box.y, box.width, box.height)
  })
  labels.forEach((label, i) => {
    const one = told[i]
    if (!label || !one) return
    context.fillStyle = 'rgba(10, 14, 16, .86)'
    context.fillRect(label.x, label.y, label.width, label.height)
    context.fillStyle = TONES[one.state] ?? '#c5ccd2'
    context.fillText(label.words === 'full' ? one.full : one.short, label.x + 4 * scale, label.y + label.height / 2 + scale / 2)
  })
}
