// The only place that knows HTTP: typed calls, problems as errors, and what happens when the login has ended.
import createClient, { type Middleware } from 'openapi-fetch'

import type { components, paths } from './schema'

/** A type of the API by its name in the OpenAPI document. */
export type Schema<Name extends keyof components['schemas']> = components['schemas'][Name]

/** What the server answered instead of what was asked for (RFC 9457), or that it did not answer (status 0). */
export class Problem extends Error {
  constructor(
    readonly status: number,
    readonly title: string,
    readonly detail: string,
  ) {
    super(detail || title)
    this.name = 'Problem'
  }
}

/** Called when an answer says that nobody is logged in. */
let ended: () => void = () => undefined
export function onLoginEnded(then: () => void): void {
  ended = then
}

const problems: Middleware = {
  async onResponse({ response, request }) {
    if (response.ok || response.status === 304) return undefined
    const body: unknown = await response.clone().json().catch(() => null)
    const text = (key: string): string => {
      const value = body !== null && typeof body === 'object' ? (body as Record<string, unknown>)[key] : undefined
      return typeof value === 'string' ? value : ''
    }
    if (response.status === 401 && !request.url.endsWith('/v1/login')) ended()
    throw new Problem(response.status, text('title') || response.statusText, text('detail'))
  },
  onError({ error }) {
    if (error instanceof Error && error.name === 'AbortError') return error
    return new Problem(0, 'offline', error instanceof Error ? error.message : String(error))
  },
}

/** `api.GET('/v1/episodes', { params: { query: { site } } })`: data or a thrown Problem. */
export const api = createClient<paths>({
  baseUrl: location.origin,
  fetch: (request: Request) => globalThis.fetch(request),
  querySerializer: { array: { style: 'form', explode: true } },
})
api.use(problems)

/** The data of a call: `await got(api.GET(…))`. A Problem is thrown before this sees the answer. */
export async function got<T>(call: Promise<{ data?: T; response: Response }>): Promise<T> {
  const { data } = await call
  return data as T
}

/** Sends files as multipart/form-data; arrays become repeated fields, undefined is left out. */
export function multipart(fields: Record<string, Blob | Blob[] | string | number | boolean | undefined>): FormData {
  const form = new FormData()
  for (const [name, value] of Object.entries(fields)) {
    if (value === undefined) continue
    for (const one of Array.isArray(value) ? value : [value]) {
      form.append(name, one instanceof Blob ? one : String(one))
    }
  }
  return form
}

/** The address of a WebSocket of this server. */
export function socketAddress(path: string): string {
  return `${location.protocol === 'https:' ? 'wss' : 'ws'}://${location.host}${path}`
}
