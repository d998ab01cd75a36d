// One component of a batch of codes on a line: its deviation, the hinge, and the way down as arrows. Points can be dragged.
import {deviation, hinge, hingeGradient, mean} from './sparse.js';
import {button, chart, el, output, slider, svg} from './ui.js';

const START = [.30, .36, .41, .45, .52, .58, .66, .40], LOW = -1, HIGH = 2, STEP = .02;
const inside = v => Math.min(HIGH, Math.max(LOW, v));

export function mount(stage) {
  const state = {z: [...START], T: .5, beta: 10}, told = output();
  const space = chart({width: 460, height: 230, x: [LOW, HIGH], y: [0, 9], label: 'Eight codes of one component on a line, with arrows down the gradient of the hinge',
    xticks: [[-1, '−1'], [0, '0'], [1, '1'], [2, '2']], xlabel: 'the component in each of eight codes'});
  space.node.classList.add('w-wide'); space.node.setAttribute('role', 'group');
  const handles = state.z.map((_, i) => {
    const node = svg('circle', {r: 8, class: 'w-fill-inferred w-point', tabindex: 0, role: 'slider', 'aria-label': `code ${i + 1}`,
      'aria-valuemin': LOW, 'aria-valuemax': HIGH});
    node.addEventListener('keydown', event => {
      const by = {ArrowLeft: -.02, ArrowDown: -.02, ArrowRight: .02, ArrowUp: .02, PageDown: -.2, PageUp: .2}[event.key];
      if (!by) return;
      event.preventDefault();
      move(i, state.z[i] + by);
    });
    node.addEventListener('pointerdown', event => node.setPointerCapture(event.pointerId));
    node.addEventListener('pointermove', event => {
      if (!node.hasPointerCapture(event.pointerId)) return;
      const box = space.node.getBoundingClientRect();
      move(i, space.back((event.clientX - box.left)/box.width*space.width));
    });
    return node;
  });
  const arrows = svg('g', {'aria-hidden': 'true'});
  space.layer.append(arrows, ...handles);

  function move(i, value) { state.z[i] = inside(value); draw(); }
  function descend() { const g = hingeGradient(state.z, state.T); state.z = state.z.map((v, i) => inside(v - STEP*state.beta*g[i])); draw(); }
  function draw() {
    const {z, T, beta} = state, m = mean(z), s = deviation(z), g = hingeGradient(z, T), x = space.x, row = i => space.y(8 - i);
    const band = [svg('rect', {x: x(Math.max(LOW, m - s)), width: x(Math.min(HIGH, m + s)) - x(Math.max(LOW, m - s)), y: space.top, height: space.y(0) - space.top,
      style: 'fill: var(--w-quiet)'}), svg('path', {d: `M${x(m)},${space.top}V${space.y(0)}`, class: 'w-faint'}),
      ...[m - T, m + T].filter(v => v > LOW && v < HIGH).map(v => svg('path', {d: `M${x(v)},${space.top}V${space.y(0)}`, class: 'w-line', 'stroke-dasharray': '3 5', style: 'stroke-width: 1'}))];
    const ways = z.map((v, i) => {
      const from = x(v), to = x(inside(v - .12*beta*g[i])), sign = Math.sign(to - from);
      if (Math.abs(to - from) < 10) return '';
      return svg('path', {d: `M${from},${row(i)}H${to}m${-7*sign},-4l${7*sign},4l${-7*sign},4`, class: 'w-line'});
    });
    arrows.replaceChildren(...band, ...ways);
    handles.forEach((node, i) => {
      node.setAttribute('cx', x(z[i])); node.setAttribute('cy', row(i));
      node.setAttribute('aria-valuenow', z[i].toFixed(2)); node.setAttribute('aria-valuetext', `${z[i].toFixed(2)}, gradient ${(beta*g[i]).toFixed(3)}`);
    });
    const charge = (beta*hinge(z, T)).toFixed(3);
    told.textContent = `Mean ${m.toFixed(2)}, deviation s = ${s.toFixed(3)}. ` + (s >= T ? `That is at least T = ${T.toFixed(2)}: the hinge charges nothing and has no gradient.`
      : s === 0 ? `All codes are equal: the hinge charges ${charge}, the most it can, and its gradient is zero all the same.`
      : `That is ${(T - s).toFixed(3)} less than T = ${T.toFixed(2)}: the hinge charges ${charge}, and going down its gradient moves every code away from the mean.`);
  }
  stage.append(
    el('div', {class: 'w-controls'},
      slider('threshold T', {min: 0, max: 1, step: .01, value: state.T}, v => { state.T = v; draw(); }, v => v.toFixed(2)),
      slider('weight β', {min: 0, max: 20, step: .5, value: state.beta}, v => { state.beta = v; draw(); })),
    space.node,
    el('div', {class: 'w-controls'}, button('one step down', descend), button('make all equal', () => { const m = Math.round(64*mean(state.z))/64; state.z = state.z.map(() => m); draw(); })), told);
  draw();
}
