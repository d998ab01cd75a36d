// FISTA with two atoms: the energy's contours, the path of the code, and the energy of each iteration above the minimum.
import {energy, fista, lipschitz} from './sparse.js';
import {chart, checkbox, el, line, output, slider, svg} from './ui.js';

const WORLD = {D: [1, .9, 0, Math.sqrt(1 - .81)], d: 2, l: 2, lam: .1}, TRUTH = [1.2, .5], START = [.2, 2.2], LOW = -.25, HIGH = 2.5;
WORLD.y = [WORLD.D[0]*TRUTH[0] + WORLD.D[1]*TRUTH[1], WORLD.D[3]*TRUTH[1]];

function contours(problem, least, space) {           // marching squares, as one path a level
  const n = 48, h = (HIGH - LOW)/n, at = k => LOW + k*h;
  const values = Array.from({length: n + 1}, (_, i) => Array.from({length: n + 1}, (_, j) => energy(problem, [at(i), at(j)]) - least));
  return [.003, .01, .03, .1, .3, .8, 1.6, 3].map(level => {
    let d = '';
    for (let i = 0; i < n; i++) for (let j = 0; j < n; j++) {
      const corners = [[i, j], [i + 1, j], [i + 1, j + 1], [i, j + 1]], cuts = [];
      corners.forEach(([a, b], k) => {
        const [p, q] = corners[(k + 1) % 4], u = values[a][b] - level, v = values[p][q] - level;
        if (u > 0 !== v > 0) { const w = u/(u - v); cuts.push([space.x(at(a + w*(p - a))), space.y(at(b + w*(q - b)))]); }
      });
      for (let k = 0; k + 1 < cuts.length; k += 2) d += `M${cuts[k].map(v => v.toFixed(1))}L${cuts[k + 1].map(v => v.toFixed(1))}`;
    }
    return svg('path', {d, class: 'w-faint'});
  });
}

export function mount(stage) {
  const state = {step: 1, iterations: 40, momentum: true, restart: false, lam: .1}, told = output();
  const plane = chart({width: 330, height: 330, x: [LOW, HIGH], y: [LOW, HIGH], label: 'Contours of the energy and the path of the code from its start to the minimum',
    xticks: [[0, '0'], [1, '1'], [2, '2']], yticks: [[0, '0'], [1, '1'], [2, '2']], xlabel: 'first component', ylabel: 'second component'});
  const curve = chart({width: 330, height: 250, x: [0, 80], y: [1e-10, 10], logy: true, label: 'Energy above the minimum after each iteration',
    xticks: [[0, '0'], [40, '40'], [80, '80']], yticks: [[1e-8, '1e−8'], [1e-4, '1e−4'], [1, '1']], xlabel: 'iteration', ylabel: 'energy above the minimum'});
  const L = lipschitz(WORLD);
  let problem, best, least, backdrop;
  function landscape() {
    problem = {...WORLD, lam: state.lam};
    best = fista(problem, {step: 1/L, iterations: 1500, restart: true, start: START}).at(-1);
    least = energy(problem, best); backdrop = contours(problem, least, plane);
  }
  function draw() {
    const codes = fista(problem, {...state, step: state.step/L, start: START}), above = codes.map(z => energy(problem, z) - least), z = codes.at(-1);
    const held = v => Math.min(HIGH, Math.max(LOW, v)), seen = codes.filter(c => c.every(Number.isFinite)).map(c => [plane.x(held(c[0])), plane.y(held(c[1]))]);
    plane.layer.replaceChildren(...backdrop, svg('path', {d: `M${plane.x(0)},${plane.y(LOW)}V${plane.y(HIGH)}M${plane.x(LOW)},${plane.y(0)}H${plane.x(HIGH)}`, class: 'w-faint', 'stroke-dasharray': '2 3'}),
      line(seen, {class: 'w-line w-inferred'}), ...seen.map(([cx, cy]) => svg('circle', {cx, cy, r: 2.4, class: 'w-fill-inferred'})),
      svg('circle', {cx: plane.x(best[0]), cy: plane.y(best[1]), r: 6, class: 'w-line w-learned', fill: 'none'}));
    curve.layer.replaceChildren(line(above.map((e, k) => [curve.x(k), curve.y(Math.min(10, Math.max(1e-10, e || 1e-10)))]), {class: 'w-line w-inferred'}));
    const left = above.at(-1);
    told.textContent = `After ${state.iterations} iteration${state.iterations === 1 ? '' : 's'} the code is (${z.map(v => Math.abs(v) < 1e3 ? v.toFixed(3) : '∞').join(', ')}); its energy is `
      + (left < 1e-12 ? 'the minimum to twelve digits.' : left < 1e3 ? `${left.toExponential(1)} above the minimum.` : 'growing without bound: the step is too long.')
      + ` The minimum has code (${Array.from(best, v => v.toFixed(3)).join(', ')}).`;
  }
  const set = (name, value) => { state[name] = value; if (name === 'lam') landscape(); draw(); };
  stage.append(
    el('div', {class: 'w-controls'},
      slider('iterations', {min: 1, max: 80, step: 1, value: state.iterations}, v => set('iterations', v)),
      slider('step size', {min: .05, max: 2.2, step: .05, value: state.step}, v => set('step', v), v => `${v.toFixed(2)}/L`),
      slider('weight λ', {min: 0, max: 1, step: .02, value: state.lam}, v => set('lam', v), v => v.toFixed(2)),
      checkbox('momentum', true, on => set('momentum', on)), checkbox('restart', false, on => set('restart', on))),
    el('div', {class: 'w-row'}, plane.node, curve.node), told);
  landscape(); draw();
}
