// A small picture of amounts over time. It is for the eye only: the same numbers stand in a table beside it.

import { h, s } from './dom.js';

const HEIGHT = 200;
const LEFT = 64;
const BOTTOM = 22;
const TOP = 10;

/** A round number at or above the largest value, for the upper end of the scale. */
export function ceiling(largest) {
  if (!(largest > 0)) return 1;
  const size = 10 ** Math.floor(Math.log10(largest));
  return [1, 2, 2.5, 5, 10].map((step) => step * size).find((round) => round >= largest * (1 - 1e-9));
}

/** The picture is drawn for the width that it has, so that its words stay readable on a phone. */
const width = () => (innerWidth > 700 ? 720 : 330);

/** Bars: `points` are `{ label, value }`; `text` writes a value. */
export function bars(points, { title, text }) {
  const WIDTH = width();
  const top = ceiling(Math.max(...points.map((point) => point.value)));
  const step = (WIDTH - LEFT) / points.length;
  const y = (value) => TOP + (HEIGHT - TOP - BOTTOM) * (1 - value / top);
  const grid = [0, 0.5, 1].map((share) => [
    s('line', { x1: LEFT, x2: WIDTH, y1: y(share * top), y2: y(share * top), class: share === 0 ? 'axis' : 'grid' }),
    s('text', { x: LEFT - 8, y: y(share * top) + 4, 'text-anchor': 'end' }, text(share * top)),
  ]);
  const columns = points.map((point, at) => {
    const height = point.value > 0 ? Math.max(1.5, y(0) - y(point.value)) : 0;
    const gap = Math.min(3, step * 0.2);
    return s('g', { class: 'column' },
      s('rect', { class: 'reach', x: LEFT + at * step, y: TOP, width: step, height: HEIGHT - TOP - BOTTOM }),
      s('rect', { class: 'bar', x: LEFT + at * step + gap / 2, y: y(0) - height, width: Math.max(1, step - gap), height }),
      s('title', null, `${point.label}: ${text(point.value)}`));
  });
  const every = Math.max(1, Math.ceil(points.length / (WIDTH > 400 ? 6 : 3)));
  const labels = points.map((point, at) => {
    // None so near to an end that it would be cut.
    const middle = LEFT + (at + 0.5) * step;
    return at % every === 0 && middle < WIDTH - 24 && s('text', { x: middle, y: HEIGHT - 6, 'text-anchor': 'middle' }, point.label);
  });
  return h('figure', { class: 'chart' }, s('svg', {
    viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: 'img', 'aria-label': `${title}. The same numbers are in the table below.`,
  }, grid, columns, labels));
}
