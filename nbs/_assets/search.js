// Search by words. Quarto's own search wants the whole query as it stands, nearly letter by letter.
const COMMON = new Set('a an and are at by can do for from how i in into is it me my of on or the to with you your use using what where which'.split(' '))
const ALIKE = { photo: ['photograph', 'picture'], picture: ['photograph'], image: ['picture'], λ: ['lambda'], pretrained: ['stored'], gpu: ['cuda'] }

function wordsOf(text) {
  const known = (text || '').normalize('NFKD').replace(/([a-z])([A-Z])/g, '$1$2 $1 $2').toLowerCase().replaceAll('λ', ' lambda ')
  return known.match(/[\p{L}\d]+/gu) || []
}

// How well a word of the query is met: by the same word, or by a longer one that begins with it.
function met(word, words) {
  if (words.has(word)) return 1
  if (word.length < 4) return 0
  const stem = word.replace(/(s|ed|ing)$/, '')
  for (const other of words) if (other.startsWith(stem)) return .6
  return 0
}

const kept = new WeakMap()
function fieldsOf(entry) {
  if (!kept.has(entry)) kept.set(entry, ['title', 'section', 'text'].map(name => new Set(wordsOf(entry[name]))))
  return kept.get(entry)
}

function ranked(query, entries, most = 50) {
  const words = wordsOf(query).filter(w => !COMMON.has(w))
  if (!words.length) return []
  const meets = entries.map(entry => words.map(word => Math.max(...[word, ...(ALIKE[word] || [])].map((form, i) => {
    const [title, section, text] = fieldsOf(entry).map(set => met(form, set))
    return (i ? .9 : 1)*Math.max(6*title + section, 4*section, text)
  }))))
  const rare = words.map((_, i) => Math.log(1 + entries.length/(1 + meets.filter(m => m[i] > 0).length)))
  const found = entries.map((item, j) => {
    const share = meets[j].filter(m => m > 0).length/words.length
    const guide = /(^|\/)howto\/|glossary|index/.test(item.href) ? 1.5 : 1
    const name = / reference$/.test(item.title) ? words.length/Math.max(words.length, wordsOf(item.title).length - 1) : 1
    return { item, refIndex: j, score: guide*name*share**2*meets[j].reduce((sum, m, i) => sum + m*rare[i], 0) }
  }).filter(found => found.score > 0).sort((a, b) => b.score - a.score)
  return spread(found).slice(0, most)
}

// The best place of each page comes before its second best.
function spread(found) {
  const seen = new Map()
  for (const one of found) {
    const page = one.item.href.split('#')[0], n = seen.get(page) || 0
    seen.set(page, n + 1)
    one.score /= 1 + n
  }
  return found.sort((a, b) => b.score - a.score)
}

if (typeof window === 'undefined') globalThis.ranked = ranked
else addEventListener('DOMContentLoaded', () => {
  if (window.Fuse) window.Fuse.prototype.search = function (query) { return ranked(query, this._docs || []) }
})
