/// <reference types="vitest/config" />
import { fileURLToPath, URL } from 'node:url'

import vue from '@vitejs/plugin-vue'
import { ElementPlusResolver } from 'unplugin-vue-components/resolvers'
import components from 'unplugin-vue-components/vite'
import { defineConfig } from 'vite'

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
  build: { target: 'es2022', chunkSizeWarningLimit: 1500, reportCompressedSize: false },
  test: {
    environment: 'jsdom',
    include: ['src/**/*.spec.ts'],
    server: { deps: { inline: ['element-plus'] } },
    setupFiles: ['src/testing.ts'],
  },
})
