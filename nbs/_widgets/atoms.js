// What the linear decoders of the paper learned on MNIST: the atoms of a model and a lambda, and its point on the regret curve.
import {chart, choice, data, el, line, output, slider, svg} from './ui.js';

const NAMES = {SDL: 'SDL: unit columns', VDL: 'VDL: the hinge', WDL: 'WDL: weight decay', DO: 'DO: decoder only'};

export async function mount(stage) {
  const models = await (await fetch(data('regret.json'))).json(), state = {model: 'VDL', at: 3}, told = output();
  const curve = chart({width: 400, height: 260, x: [0, 100], y: [16, 25], label: 'Quality of reconstruction against sparsity, one curve a model',
    xticks: [[0, '0'], [25, '25'], [50, '50'], [75, '75'], [100, '100']], yticks: [[16, '16'], [20, '20'], [24, '24']], xlabel: 'components that are zero (%)', ylabel: 'PSNR (dB)'});
  const sheet = el('img', {class: 'w-sheet', alt: '', width: 463, height: 231});
  const caption = el('figcaption', {style: 'max-width: none'}), place = p => [curve.x(p.sparsity), curve.y(p.psnr)];
  const knob = slider('λ', {min: 0, max: 5, step: 1, value: state.at}, v => { state.at = v; draw(); }, v => String(models[state.model][v].lam));
  function draw() {
    const points = models[state.model], p = points[state.at];
    curve.layer.replaceChildren(...Object.values(models).map(all => line(all.map(place), {class: 'w-faint'})), line(points.map(place), {class: 'w-line w-learned'}),
      ...points.map(q => svg('circle', {cx: place(q)[0], cy: place(q)[1], r: q === p ? 7 : 3, class: q === p ? 'w-fill-inferred' : 'w-fill-learned'})));
    const stored = points.filter(q => q.atoms), near = p.atoms ? p : stored.reduce((a, b) => Math.abs(Math.log((b.lam + 1e-9)/(p.lam + 1e-9))) < Math.abs(Math.log((a.lam + 1e-9)/(p.lam + 1e-9))) ? b : a);
    sheet.src = data(near.atoms).href;
    sheet.alt = `The 128 atoms of ${state.model} at lambda ${near.lam}, each on its own grey scale`;
    caption.textContent = p.atoms ? `The 128 atoms of ${state.model} at λ = ${p.lam}, seed 0. Mid-grey is zero.`
      : `Weights are stored for some λ only. These are the atoms at λ = ${near.lam}, the nearest; they are not those of λ = ${p.lam}.`;
    sheet.style.opacity = p.atoms ? 1 : .45;
    told.textContent = `${state.model} at λ = ${p.lam}: ${p.sparsity.toFixed(1)} % of the components of a test digit's code are zero, and its reconstruction has ${p.psnr.toFixed(2)} dB `
      + `(${p.seeds === 1 ? 'one seed' : `mean of ${p.seeds} seeds`}, 200 epochs).` + (p.dead >= 1 ? ` ${p.dead.toFixed(p.dead % 1 ? 1 : 0)} components are used by no test digit.` : '');
    const input = knob.querySelector('input');
    knob.querySelector('.w-value').textContent = String(p.lam); input.setAttribute('aria-valuetext', String(p.lam));
  }
  stage.append(el('div', {class: 'w-controls'}, choice('model', NAMES, state.model, name => { state.model = name; draw(); }), knob),
    el('div', {class: 'w-row'}, curve.node, el('figure', {}, sheet, caption)), told);
  draw();
}
