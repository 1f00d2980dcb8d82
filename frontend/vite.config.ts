/// <reference types="vitest/config" />
import { fileURLToPath, URL } from 'node:url'

import vue from '@vitejs/plugin-vue'
import { ElementPlusResolver } from 'unplugin-vue-components/resolvers'
import components from 'unplugin-vue-components/vite'
import { defineConfig } from 'vite'

// Lengths are written in px, as Element Plus has them, and shipped in rem: whoever sets a larger letter, and a wall of
// 4K (style.css), scales everything at once. Hairlines stay hairlines; media queries ask the screen, not the letter.
const scaled = {
  postcssPlugin: 'px-to-rem',
  Declaration(one: { value: string }) {
    if (one.value.includes('px') && !one.value.includes('url(')) {
      one.value = one.value.replace(/(?<![\w.#-])(-?\d*\.?\d+)px\b/g, (px, n: string) => (Math.abs(Number(n)) <= 1 ? px : `${Number(n) / 16}rem`))
    }
  },
}

// `npm run dev` shows this page with the API of a running `make run`; MASKWATCH_API names another one.
const api = process.env.MASKWATCH_API ?? 'http://127.0.0.1:8000'

export default defineConfig({
  plugins: [vue(), components({ dts: false, dirs: [], resolvers: [ElementPlusResolver()] })],
  resolve: { alias: { '@': fileURLToPath(new URL('./src', import.meta.url)) } },
  server: {
    host: '127.0.0.1',
    // the API takes writes only from a page of its own address
    proxy: Object.fromEntries(
      ['/v1', '/schema'].map((path) => [path, { target: api, ws: true, changeOrigin: true, headers: { origin: api } }]),
    ),
  },
  css: { postcss: { plugins: [scaled] } },
  build: { target: 'es2022', chunkSizeWarningLimit: 1500, reportCompressedSize: false },
  test: {
    environment: 'jsdom',
    include: ['src/**/*.spec.ts'],
    server: { deps: { inline: ['element-plus'] } },
    setupFiles: ['src/testing.ts'],
  },
})
