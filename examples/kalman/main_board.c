/* SPDX-License-Identifier: CC0-1.0
 * The filter on a bare Cortex-M4F: one record of measurements, which is constant data, and the same output as on the host;
 * then the instructions that a second of prediction (64 steps) and one update take.
 */
#include <string.h>

#include "board.h"
#include "filter.h"
#include "measurements.h"

static void show(const filter *f, const char *end)
{
    static const char digits[] = "0123456789abcdef";
    for (int32_t i = 0; i < STATES; ++i) {
        char text[10];
        uint32_t bits;
        memcpy(&bits, &f->x[i], sizeof bits);
        for (int32_t k = 0; k < 8; ++k) {
            text[k] = digits[(bits >> (28 - 4 * k)) & 15U];
        }
        text[8] = ' ';
        text[9] = '\0';
        if (i == STATES - 1) {
            text[8] = '\0';
        }
        board_text(text);
    }
    board_text(end);
}

int main(void)
{
    filter order[2];
    uint32_t predicting[2] = {0U, 0U}, updating[2] = {0U, 0U};
    board_start();
    for (int32_t k = 0; k < 2; ++k) {
        filter_start(&order[k], k);
    }
    for (int32_t second = 0; second < MEASUREMENTS; ++second) {
        for (int32_t k = 0; k < 2; ++k) {
            const uint32_t start = board_ticks();
            uint32_t middle;
            if (filter_predict(&order[k], 1.0f, 64) != 0) {
                return 2;
            }
            middle = board_ticks();
            if (filter_update(&order[k], measured[second], 1e-6f) != 0) {
                return 2;
            }
            predicting[k] += middle - start;
            updating[k] += board_ticks() - middle;
            show(&order[k], k == 0 ? " " : "\n");
        }
    }
    for (int32_t k = 0; k < 2; ++k) {
        board_text(k == 0 ? "order 1 predict " : "order 2 predict ");
        board_number(predicting[k] * BOARD_INSTRUCTIONS_PER_TICK / MEASUREMENTS);
        board_text(" update ");
        board_number(updating[k] * BOARD_INSTRUCTIONS_PER_TICK / MEASUREMENTS);
        board_text("\n");
    }
    return 0;
}
