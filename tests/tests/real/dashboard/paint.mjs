// When the first paint is there and how much was sent for it, cold and warm.

import { house, tell } from './house.mjs';

const [url] = process.argv.slice(2);

await house(async (page, context) => {
  for (const state of ['cold', 'warm']) {
    const tab = await context.newPage();
    await tab.goto(url);
    await tab.getByRole('button').first().waitFor();
    tell(state, await tab.evaluate(() => {
      const all = [performance.getEntriesByType('navigation')[0], ...performance.getEntriesByType('resource')];
      const shifts = new Promise((resolve) => {
        let sum = 0;
        new PerformanceObserver((list) => {
          for (const entry of list.getEntries()) sum += entry.value;
        }).observe({ type: 'layout-shift', buffered: true });
        requestAnimationFrame(() => requestAnimationFrame(() => resolve(sum)));
      });
      return shifts.then((shift) => ({
        first_paint: Math.round(performance.getEntriesByName('first-contentful-paint')[0]?.startTime),
        bytes: all.reduce((sum, entry) => sum + entry.transferSize, 0), requests: all.length, shift,
      }));
    }));
    await tab.close();
  }
});
tell('done');
