// Brings the pieces of a page to life: each element with data-widget gets the module of that name. Without JavaScript, or
// where something fails, what the element held before stays readable.
const roots = document.querySelectorAll('[data-widget]');
if (roots.length) {
  const style = document.createElement('link');
  Object.assign(style, {rel: 'stylesheet', href: new URL('widgets.css', import.meta.url).href});
  document.head.append(style);
}
async function begin(root, mount) {             // on a new stage; `reset` puts another one in its place
  const stage = document.createElement('div'), again = document.createElement('button');
  stage.className = 'w-stage';
  await mount(stage);
  Object.assign(again, {type: 'button', className: 'w-reset', textContent: 'reset'});
  again.addEventListener('click', async () => { await begin(root, mount); root.querySelector('.w-reset').focus(); });
  stage.append(again);
  root.replaceChildren(stage);
  root.dataset.ready = 'yes';
}
for (const root of roots) begin(root, (await import(`./${root.dataset.widget}.js`)).mount);
