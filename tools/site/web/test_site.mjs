// Drive every page of the built site in headless Chromium: `make test-site`, after `make site`; a stale build fails.
// Each page is opened at the width of a telephone and of a desk, and looked at in both themes. JOBS pages at a time: 2.
import { execFileSync } from 'node:child_process'
import { createServer } from 'node:http'
import { existsSync, readFileSync, readdirSync, statSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, extname, join, relative, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { gzipSync } from 'node:zlib'

const HERE = dirname(fileURLToPath(import.meta.url)), ROOT = resolve(HERE, '../../..'), DOCS = join(ROOT, '_docs')
const BASE = '/' + /^doc_baseurl\s*=\s*\/?(.*?)\/?\s*$/m.exec(readFileSync(join(ROOT, 'settings.ini'), 'utf8'))[1]
  .replace('%(repo)s', /^repo\s*=\s*(.*?)\s*$/m.exec(readFileSync(join(ROOT, 'settings.ini'), 'utf8'))[1]) + '/'
const WIDTHS = [390, 1400], HEAVIEST = 2_000_000, GRAVE = ['serious', 'critical'], JOBS = Number(process.env.JOBS ?? 2)
const PATIENCE = 120_000, STILL = 60       // milliseconds for a busy machine; characters that a piece says without JavaScript
const FLAGS = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync']
const KINDS = { '.html': 'text/html', '.css': 'text/css', '.js': 'text/javascript', '.mjs': 'text/javascript', '.json': 'application/json',
  '.svg': 'image/svg+xml', '.png': 'image/png', '.woff': 'font/woff', '.woff2': 'font/woff2' }

function browser() {
  for (const name of [process.env.CHROMIUM, 'chromium', 'chromium-browser', 'google-chrome'].filter(Boolean))
    try { return execFileSync('sh', ['-c', 'command -v "$0"', name], { encoding: 'utf8' }).trim() } catch { /* the next one */ }
  console.error('no Chromium on the PATH: install chromium, or set CHROMIUM to a browser'); process.exit(1)
}

function files(folder) {
  return readdirSync(folder, { withFileTypes: true }).flatMap(f => f.isDirectory() ? files(join(folder, f.name)) : [join(folder, f.name)])
}

// The page, script or style that was changed last, if that was after the build.
function newerThanBuild() {
  const built = statSync(join(DOCS, 'search.json')).mtimeMs
  const sources = ['nbs', 'tools/site'].flatMap(f => files(join(ROOT, f))).filter(f => !/node_modules|__pycache__|test_site|\.ipynb_checkpoints/.test(f))
  const newest = sources.reduce((a, b) => statSync(a).mtimeMs > statSync(b).mtimeMs ? a : b)
  return statSync(newest).mtimeMs > built ? [`the build in _docs/ is stale: ${relative(ROOT, newest)} is newer; run make site`] : []
}

// ---- links, by reading ----

const unescaped = text => decodeURIComponent(text.replaceAll('&amp;', '&'))

function deadLinks(pages) {
  const html = new Map(pages.map(p => [p, readFileSync(p, 'utf8')])), dead = []
  const ids = new Map([...html].map(([p, text]) => [p, new Set([...text.matchAll(/\s(?:id|name)="([^"]+)"/g)].map(m => unescaped(m[1])))]))
  for (const [page, text] of html)
    for (const [, card] of text.matchAll(/\b(?:og|twitter):image" content="https?:\/\/[^/]+([^"]+)"/g))
      if (!existsSync(join(DOCS, unescaped(card).slice(BASE.length)))) dead.push(`${relative(DOCS, page)}: no card ${card}`)
  for (const [page, text] of html)
    for (const [, raw] of text.matchAll(/\s(?:href|src)="([^"]*)"/g)) {
      const target = unescaped(raw)
      if (!target || /^(https?|mailto|data|javascript):/.test(target) || target === '#') continue
      const [path, anchor] = target.split('#')
      let file = path.split('?')[0]
      file = !file ? page : file.startsWith(BASE) ? join(DOCS, file.slice(BASE.length)) : file.startsWith('/') ? null : resolve(dirname(page), file)
      if (file && existsSync(file) && statSync(file).isDirectory()) file = join(file, 'index.html')
      const at = relative(DOCS, page)
      if (!file || !existsSync(file)) dead.push(`${at}: nothing at ${target}`)
      else if (anchor && ids.has(file) && !ids.get(file).has(anchor)) dead.push(`${at}: no anchor ${target}`)
    }
  return dead
}

// ---- pages, in a browser ----

function serve() {
  const server = createServer((request, response) => {
    let file = join(DOCS, decodeURIComponent(new URL(request.url, 'http://x').pathname).slice(BASE.length))
    if (existsSync(file) && statSync(file).isDirectory()) file = join(file, 'index.html')
    if (!existsSync(file)) { response.writeHead(404); response.end(); return }
    const text = ['.html', '.css', '.js', '.mjs', '.json', '.svg'].includes(extname(file)), raw = readFileSync(file)
    const body = text ? gzipSync(raw) : raw     // as the server of the real site does
    response.writeHead(200, { 'content-type': KINDS[extname(file)] ?? 'application/octet-stream', 'content-length': body.length,
      ...(text && { 'content-encoding': 'gzip' }) })
    response.end(body)
  })
  return new Promise(done => server.listen(0, '127.0.0.1', () => done(server)))
}

async function moveWidget(page, widget) {
  const name = await widget.getAttribute('data-widget'), output = widget.locator('output').first()
  await page.waitForFunction(w => w.dataset.ready, await widget.elementHandle(), { timeout: PATIENCE }).catch(() => {})
  if (!await output.count()) return `widget ${name} has no <output>`
  await widget.scrollIntoViewIfNeeded()
  const said = async () => (await widget.locator('output').allInnerTexts()).join('|')
  await page.waitForFunction(w => w.querySelector('output').textContent.trim(), await widget.elementHandle(), { timeout: PATIENCE }).catch(() => {})
  const before = await said(), slider = widget.locator('input[type=range]').first(), button = widget.locator('button').first()
  const canvas = widget.locator('canvas, svg').first()
  const changed = () => page.waitForFunction(([w, old]) => [...w.querySelectorAll('output')].map(o => o.innerText).join('|') !== old,
    [widgetHandle, before], { timeout: 10000 }).then(() => true, () => false)
  const widgetHandle = await widget.elementHandle()
  const ways = [
    async () => { if (await slider.count()) { await slider.focus(); for (const k of ['ArrowRight', 'ArrowRight', 'PageUp']) await page.keyboard.press(k); return true } },
    async () => { if (await slider.count()) { await slider.focus(); await page.keyboard.press('Home'); return true } },
    async () => { if (await button.count()) { await button.focus(); await page.keyboard.press('Enter'); return true } },
    async () => { if (await canvas.count()) {
      const box = await canvas.boundingBox(), at = (x, y) => [box.x + box.width*x, box.y + box.height*y]
      await page.mouse.move(...at(.4, .3)); await page.mouse.down(); await page.mouse.move(...at(.6, .7), { steps: 8 }); await page.mouse.up(); return true } },
  ]
  for (const way of ways) if (await way() && await changed()) return null
  return `widget ${name} was moved and its output stayed "${before}"`
}

async function look(context, file, origin, width, axe) {
  const found = [], page = await context.newPage(), at = relative(DOCS, file), fail = what => found.push(`${at} at ${width}: ${what}`)
  let bytes = 0
  page.setDefaultTimeout(PATIENCE)
  page.on('console', m => { if (m.type() === 'error') fail(`console: ${m.text()}`) })
  page.on('pageerror', e => fail(`script: ${e.message}`))
  page.on('requestfailed', r => fail(`request failed: ${r.url()}`))
  page.on('response', r => { if (!r.url().includes('/mathjax/')) bytes += Number(r.headers()['content-length'] ?? 0) })
  await page.route('**/*', route => {
    const url = route.request().url()
    if (url.startsWith(origin) || /^(data|blob):/.test(url)) return route.continue()
    fail(`asks another server: ${url}`)
    return route.abort()
  })
  await page.goto(origin + BASE + at, { waitUntil: 'load' })
  await page.evaluate(() => window.MathJax?.startup?.promise)
  await page.evaluate(() => document.fonts.ready)
  if (bytes > HEAVIEST) fail(`${(bytes/1e6).toFixed(1)} MB beside MathJax`)
  await page.evaluate(() => document.querySelectorAll('main details').forEach(d => { d.open = true }))
  const shape = await page.evaluate(() => ({
    wide: document.documentElement.scrollWidth > innerWidth ? document.documentElement.scrollWidth : 0,
    culprits: [...document.querySelectorAll('body *')].filter(e => e.getBoundingClientRect().right > innerWidth + 1 && e.offsetParent
      && (function free(p) { return !p || (getComputedStyle(p).overflowX === 'visible' && free(p.parentElement)) })(e.parentElement))
      .slice(0, 3).map(e => `<${e.localName} class="${e.className}"> ${(e.innerText ?? '').slice(0, 40)}`),
    clipped: [...document.querySelectorAll('main div.sourceCode > pre')].filter(p => p.offsetParent && p.scrollWidth > p.clientWidth + 1)
      .map(p => p.innerText.split('\n').sort((a, b) => b.length - a.length)[0]),
    broken: [...document.images].filter(i => i.complete && !i.naturalWidth).map(i => i.src),
    mute: [...document.querySelectorAll('main img')].filter(i => !i.alt.trim()).map(i => i.src.split('/').pop()),
    unset: [...document.querySelectorAll('mjx-assistive-mml merror, mjx-assistive-mml [mathcolor="red"]')].map(e => e.textContent),
    wideFormulas: [...document.querySelectorAll('main mjx-container[display="true"], main span.math.display')]
      .filter(e => e.offsetParent && e.scrollWidth > e.clientWidth + 1).map(e => e.textContent.slice(0, 60)),
  }))
  if (shape.wide) fail(`scrolls sideways, ${shape.wide} pixels wide: ${shape.culprits.join('; ')}`)
  if (width >= 1400) for (const line of shape.clipped) fail(`code clipped: ${line}`)
  if (width >= 1400) for (const what of shape.wideFormulas) fail(`formula clipped: ${what}`)
  for (const src of shape.broken) fail(`no picture at ${src}`)
  for (const src of shape.mute) fail(`no alternative text for ${src}`)
  for (const what of shape.unset) fail(`formula: ${what}`)
  await page.evaluate(axe)
  for (const theme of ['light', 'dark']) {
    await page.evaluate(dark => { if (document.body.classList.contains('quarto-dark') !== dark) window.quartoToggleColorScheme() }, theme === 'dark')
    // a busy machine takes its time to read the other style sheet
    await page.waitForFunction(dark => (getComputedStyle(document.documentElement).getPropertyValue('--paper').trim() !== '#ffffff') === dark,
      theme === 'dark', { timeout: PATIENCE })
    await page.waitForTimeout(250)
    // what a theme changes is looked at in both, the rest in one
    const rules = theme === 'light' ? {} : { runOnly: { type: 'rule', values: ['color-contrast', 'link-in-text-block'] } }
    const { violations } = await page.evaluate(rules => window.axe.run(document, { resultTypes: ['violations'], ...rules }), rules)
    for (const v of violations.filter(v => GRAVE.includes(v.impact)))
      fail(`${theme}: ${v.id} (${v.impact}), ${v.nodes.length} times: ${v.nodes.slice(0, 3).map(n => n.target.join(' ') + (n.any[0]?.message ? ` [${n.any[0].message}]` : '')).join('; ')}`)
  }
  for (const widget of await page.locator('[data-widget]').all()) {
    const trouble = await moveWidget(page, widget)
    if (trouble) fail(trouble)
  }
  await page.close()
  return found
}

// Without JavaScript: the text, the code, the pictures, and for each piece that would move what it shows.
async function lookWithout(context, file, origin) {
  const page = await context.newPage(), at = relative(DOCS, file)
  page.setDefaultTimeout(PATIENCE)
  await page.goto(origin + BASE + at, { waitUntil: 'load' })
  const found = [], fail = what => found.push(`${at} without JavaScript: ${what}`)
  const said = async place => (await place.innerText()).trim()
  if ((await said(page.locator('main'))).length < 200) fail('the text does not show')
  for (const code of await page.locator('main pre').all())
    if (!await code.evaluate(e => e.textContent.trim() === '' || e.closest('details') || e.getBoundingClientRect().height > 0)) fail('code does not show')
  for (const widget of await page.locator('[data-widget]').all())
    if ((await said(widget)).length < STILL) fail(`widget ${await widget.getAttribute('data-widget')} says only "${await said(widget)}"`)
  await page.close()
  return found
}

if (!existsSync(DOCS)) { console.error('no site in _docs/: run make site first'); process.exit(1) }
const stale = newerThanBuild()
for (const what of stale) console.log('STALE ' + what)
const require = createRequire(import.meta.url), { chromium } = require('playwright-core')
const axe = readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8')
const only = process.argv.slice(2), pages = files(DOCS).filter(f => f.endsWith('.html'))
const dead = deadLinks(pages), found = [], server = await serve(), origin = `http://127.0.0.1:${server.address().port}`
const chrome = await chromium.launch({ executablePath: browser(), args: FLAGS })
let seen = 0
function tell(file, where, troubles, start) {
  console.log(`${troubles.length ? 'FAILED' : 'passed'} ${relative(DOCS, file)} ${where} (${((Date.now() - start)/1000).toFixed(1)} s)`)
  for (const what of troubles) console.log('  ' + what)
  found.push(...troubles); seen++
}
const chosen = pages.filter(p => !only.length || only.some(o => p.includes(o)))
async function each(where, options, visit) {
  const waiting = [...chosen]
  async function work() {
    const context = await chrome.newContext(options)
    for (let file = waiting.shift(); file; file = waiting.shift()) {
      const start = Date.now()
      tell(file, where, await visit(context, file), start)
    }
    await context.close()
  }
  await Promise.all(Array.from({ length: JOBS }, work))
}
const size = width => ({ viewport: { width, height: 900 } })
await each('without JavaScript', { ...size(WIDTHS[0]), javaScriptEnabled: false }, (context, file) => lookWithout(context, file, origin))
for (const width of WIDTHS)
  await each(`at ${width} pixels`, { ...size(width), colorScheme: 'light', reducedMotion: 'reduce' },
    (context, file) => look(context, file, origin, width, axe))
await chrome.close()
server.close()
for (const what of dead) console.log('DEAD ' + what)
for (const what of stale) console.log('STALE ' + what)
console.log(`${seen - new Set(found.map(f => f.split(': ')[0])).size} passed, ${found.length + dead.length + stale.length} failed`)
process.exit(found.length + dead.length + stale.length ? 1 : 0)
