"""What each command of `rcnn` does: a module has its arguments (`add_parser`) and its work (`run`)."""
