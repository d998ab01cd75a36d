// What scrolls sideways can be reached by the keyboard.
function reachable() {
  for (const box of document.querySelectorAll('main pre, main .cell-output-display, main .scrolls, main mjx-container[display="true"]')) {
    const scrolls = box.scrollWidth > box.clientWidth + 1
    if (scrolls) { box.tabIndex = 0; if (!box.getAttribute('role')) box.setAttribute('role', 'group') }
    else if (box.getAttribute('role') === 'group') { box.removeAttribute('tabindex'); box.removeAttribute('role') }
  }
}

// A table of its own, outside a cell's output, gets a box to scroll in.
for (const table of document.querySelectorAll('main table')) {
  if (table.closest('.scrolls, .cell-output-display')) continue
  const box = document.createElement('div')
  box.className = 'scrolls'
  table.replaceWith(box)
  box.append(table)
}

// The search field and its button say what they are; Quarto makes them when the page has loaded.
function named() {
  document.querySelectorAll('.aa-Autocomplete').forEach(e => e.setAttribute('aria-label', 'Search'))
  document.querySelectorAll('.aa-DetachedSearchButton').forEach(e => e.setAttribute('aria-label', 'Search'))
}

addEventListener('load', () => { reachable(); named() })
addEventListener('resize', reachable)
addEventListener('toggle', reachable, true)
if (window.MathJax?.startup?.promise) window.MathJax.startup.promise.then(reachable)
