/** The tab with an engine that looks live and answers every question with a recorded answer; for tab.mjs. */

import { play } from "../tab/player";
import type { Engine, Ready, Settings } from "../tab/protocol";
import { RcnnTab } from "../tab/ui/tab";

interface Call {
  command: string;
  args: unknown[];
}
const calls: Call[] = [];
(window as unknown as { calls: Call[] }).calls = calls;

/** Return an engine that records the calls in `window.calls`. */
function connect(base: string): Engine {
  const inner = play(base);
  let ready: Ready;
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
