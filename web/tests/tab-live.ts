/** The tab with an engine that looks live and answers every question with a recorded answer; for tab.mjs. */

import { play } from "../tab/player";
import type { Engine, Ready, Settings } from "../tab/protocol";
import { RcnnTab } from "../tab/ui/tab";

interface Call {
  command: string;
  args: unknown[];
}
const calls: Call[] = [];
const page = window as unknown as { calls: Call[]; mostAtOnce: number };
[page.calls, page.mostAtOnce] = [calls, 0]; // mostAtOnce counts the requests for training steps that wait at the same time

/** Return an engine that records the calls in `window.calls`. */
function connect(base: string): Engine {
  const inner = play(base);
  let ready: Ready;
  let atOnce = 0;
  const nearest = (settings: Settings) =>
    (ready.recordedSettings ?? []).find((one) => Object.keys(one).every((name) => String(Reflect.get(one, name)) === String(Reflect.get(settings, name)))) ??
    ready.defaults;
  const answers: Partial<Engine> = {
    async load(progress) {
      ready = await inner.load(progress);
      return { ...ready, recorded: false, recordedSettings: null, recordedPages: null, pages: 1 };
    },
    async detect(_, settings) {
      return inner.detect((await inner.page(0)).image, nearest(settings));
    },
    async trainSteps(count) {
      page.mostAtOnce = Math.max(page.mostAtOnce, ++atOnce);
      return inner.trainSteps(count).finally(() => atOnce--);
    },
  };
  return new Proxy(inner, {
    get(target, command: keyof Engine) {
      return (...args: unknown[]) => {
        calls.push({ command, args });
        const method = (answers[command] ?? target[command]) as (...given: unknown[]) => unknown;
        return method.apply(target, args);
      };
    },
  });
}

RcnnTab.engines = { play, connect, canRun: () => true };
customElements.define("rcnn-tab", RcnnTab);
