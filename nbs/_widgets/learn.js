// A dictionary learns the bars while you watch: codes by FISTA for a new batch, then a step of Adam, with the hinge or without.
import {adam, bars, dictionaryGradient, found, inferBatch, l1, lipschitz, normal, uniforms} from './sparse.js';
import {button, chart, checkbox, el, figure, line, output, picture, slider, svg, symmetric} from './ui.js';

const SIDE = 8, d = SIDE*SIDE, l = 2*SIDE, BATCH = 60, STEPS = 1200, RATE = .02, BUDGET = 14;

export function mount(stage) {
  const state = {hinge: true, lam: .02, running: false}, told = output();
  const tiles = Array.from({length: l}, (_, j) => picture(SIDE, `atom ${j + 1}`, 5));
  const curve = chart({width: 380, height: 240, x: [0, STEPS*1.03], y: [.1, 20], logy: true, label: 'Size of the codes and length of the atoms against the steps of training',
    xticks: [[0, '0'], [600, '600'], [1200, '1200']], yticks: [[.1, '0.1'], [1, '1'], [10, '10']], xlabel: 'step of training', ylabel: ''});
  const go = button('learn', () => { state.running = !state.running; tick(); });
  let run;

  function reset() {
    run = {k: 0, random: uniforms(1), memory: {}, W: normal(d*l, 3).map(v => v/SIDE), sizes: [], lengths: [], bars: 0};
    state.running = false; step(); draw();
  }
  const length = () => { let all = 0; for (let j = 0; j < l; j++) { let w = 0; for (let i = 0; i < d; i++) w += run.W[i*l + j]**2; all += Math.sqrt(w)/l; } return all; };
  function step() {
    const {Y, D} = bars(BATCH, SIDE, run.random), beta = state.hinge ? 10 : 0, model = {W: run.W, d, l, lam: state.lam, beta, T: .5};
    const L = lipschitz({D: run.W, d, l}, 20) + 2*beta/(BATCH - 1), Z = inferBatch(model, Y, BATCH, {step: 1/L, iterations: 40});
    run.sizes.push([run.k, l1(Z)/BATCH]); run.lengths.push([run.k, length()]); run.bars = found({D, W: run.W, d, l});
    adam(run.memory, run.W, dictionaryGradient(model, Z, Y, BATCH), RATE);
    run.k++;
  }
  function draw() {
    tiles.forEach((tile, j) => { const values = Array.from({length: d}, (_, i) => run.W[i*l + j]); tile.paint(values, ...symmetric(values)); });
    const held = v => Math.min(20, Math.max(.1, v)), points = rows => rows.map(([k, v]) => [curve.x(k), curve.y(held(v))]);
    const [size, long] = [run.sizes.at(-1)[1], run.lengths.at(-1)[1]];
    const name = (v, other, text, kind) => svg('text', {x: Math.min(curve.x(run.k) + 4, curve.width - 108), y: curve.y(held(v)) + (v > other ? -8 : 18), class: `w-name w-fill-${kind}`}, text);
    curve.layer.replaceChildren(line(points(run.sizes), {class: 'w-line w-inferred'}), line(points(run.lengths), {class: 'w-line w-learned'}),
      name(size, long, 'l1 norm of a code', 'inferred'), name(long, size, 'length of an atom', 'learned'));
    go.textContent = state.running ? 'pause' : run.k >= STEPS ? 'done' : run.k > 1 ? 'go on' : 'learn';
    if (!state.running || run.k % 25 < 4) told.textContent = `Step ${run.k}, ${state.hinge ? 'with' : 'without'} the hinge: the codes have a mean l1 norm of ${size.toFixed(2)}, `
      + `the atoms a mean length of ${long.toFixed(2)}, and ${run.bars} of the 16 bars have an atom of their own.`;
  }
  function tick() {
    const begun = performance.now();
    while (state.running && run.k < STEPS && performance.now() - begun < BUDGET) step();
    if (run.k >= STEPS) state.running = false;
    draw();
    if (state.running && stage.isConnected) requestAnimationFrame(tick);
  }
  stage.append(
    el('div', {class: 'w-controls'}, go,  checkbox('with the hinge', true, on => { state.hinge = on; reset(); }),
      slider('weight λ', {min: .005, max: .03, step: .005, value: state.lam}, v => { state.lam = v; reset(); }, v => v.toFixed(3))),
    el('div', {class: 'w-row'}, figure('the 16 atoms, each on its own grey scale', el('div', {class: 'w-tiles'}, tiles.map(tile => tile.node))), curve.node), told);
  reset();
}
