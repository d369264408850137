/* The points at which a host writes a transaction, as numbers. */
#ifndef PERSISTENCE_POINTS_H
#define PERSISTENCE_POINTS_H

typedef enum commit_point {
    POINT_NONE, /* of nobody in particular: no failpoint stands there */
#define COMMIT_POINT(name, text, what) POINT_##name,
#include "persistence/points.def"
    POINT_COUNT
} commit_point;

#endif
