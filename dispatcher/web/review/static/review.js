/* What all pages do with scripts; without them everything can be read. */
"use strict";
