// The first time a page uses an acronym of the glossary, it becomes a link to its entry that shows its meaning: on hover, and on
// focus by the keyboard. Quarto's own tooltips do the showing; where they are missing, the browser's.
const {acronyms} = await (await fetch(new URL('glossary.json', import.meta.url))).json();
const main = document.querySelector('main') ?? document.body, entries = new URL('../glossary.html', import.meta.url);
const skipped = 'pre, code, a, h1, h2, h3, h4, h5, h6, button, label, legend, svg, mjx-container, script, style, nav, .math, [data-widget]';
const names = Object.keys(acronyms).filter(name => name !== 'NL'), pattern = new RegExp(`\\b(${names.join('|')})\\b`), left = new Set(names);

function link(name) {
  const [meaning, more] = acronyms[name], term = document.createElement('a');
  Object.assign(term, {className: 'term', textContent: name, href: `${entries}#${name}`});
  term.dataset.meaning = `${meaning}. ${more}`;
  if (!window.tippy) term.title = term.dataset.meaning;
  return term;
}
const texts = [], walker = document.createTreeWalker(main, NodeFilter.SHOW_TEXT,
  {acceptNode: node => node.parentElement.closest(skipped) ? NodeFilter.FILTER_REJECT : NodeFilter.FILTER_ACCEPT});
while (walker.nextNode()) texts.push(walker.currentNode);
if (location.pathname !== entries.pathname) for (let node of texts) {
  for (let match; (match = pattern.exec(node.data));) {
    const rest = node.splitText(match.index + match[1].length);
    if (left.delete(match[1])) node.splitText(match.index).replaceWith(link(match[1]));
    node = rest;
  }
}
if (window.tippy) window.tippy('a.term', {content: term => term.dataset.meaning, theme: 'quarto', placement: 'bottom-start', maxWidth: 420, delay: [150, 0]});
