import { AnchorPainter } from "./anchor-painter";
import { BoxIou } from "./box-iou";
import { NmsStepper } from "./nms-stepper";
import { PoolCompare } from "./pool-compare";
import { ScoreThreshold } from "./score-threshold";

customElements.define("rcnn-box-iou", BoxIou);
customElements.define("rcnn-anchor-painter", AnchorPainter);
customElements.define("rcnn-nms-stepper", NmsStepper);
customElements.define("rcnn-pool-compare", PoolCompare);
customElements.define("rcnn-score-threshold", ScoreThreshold);
