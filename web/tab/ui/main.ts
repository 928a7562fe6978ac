/** The entry of the page: it defines the element <rcnn-tab>. */

import { canRun, connect } from "../client";
import { play } from "../player";
import { RcnnTab } from "./tab";

RcnnTab.engines = { play, connect, canRun };
customElements.define("rcnn-tab", RcnnTab);
