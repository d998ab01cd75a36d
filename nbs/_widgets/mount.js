// Brings the pieces of a page to life: each element with data-widget gets the module of that name. Without JavaScript, or
// where something fails, what the element held before stays readable.
const roots = document.querySelectorAll('[data-widget]');
if (roots.length) {
  const style = document.createElement('link');
  Object.assign(style, {rel: 'stylesheet', href: new URL('widgets.css', import.meta.url).href});
  document.head.append(style);
}
for (const root of roots) {
  const {mount} = await import(`./${root.dataset.widget}.js`);
  const stage = document.createElement('div');
  stage.className = 'w-stage';
  await mount(stage);
  root.querySelector('.w-still')?.remove();
  root.append(stage);
  root.dataset.ready = 'yes';
}
