/* SPDX-License-Identifier: CC0-1.0
 * The filter on the host: reads `runs seconds` and then the measured distances of each run, prints the estimates after each
 * measurement as the bits of three floats, first order and second order.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "filter.h"

int main(void)
{
    int runs, seconds;
    if (scanf("%d %d", &runs, &seconds) != 2) {
        return 1;
    }
    for (int run = 0; run < runs; ++run) {
        filter order[2];
        filter_start(&order[0], 0);
        filter_start(&order[1], 1);
        for (int second = 0; second < seconds; ++second) {
            float distance;
            if (scanf("%f", &distance) != 1) {
                return 1;
            }
            for (int k = 0; k < 2; ++k) {
                uint32_t bits[STATES];
                if (filter_predict(&order[k], 1.0f, 64) != 0 || filter_update(&order[k], distance, 1e-6f) != 0) {
                    return 2;
                }
                memcpy(bits, order[k].x, sizeof bits);
                printf("%08" PRIx32 " %08" PRIx32 " %08" PRIx32 "%s", bits[0], bits[1], bits[2], k == 0 ? " " : "\n");
            }
        }
    }
    return 0;
}
