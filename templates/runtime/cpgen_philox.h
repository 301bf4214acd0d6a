/* SPDX-License-Identifier: CC0-1.0
 * Random signs from a counter: the same bits for any threads, any split of the rows and any machine.
 * Philox4x32-10 of Salmon, Moraes, Dror & Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
 */
#ifndef CPGEN_PHILOX_H
#define CPGEN_PHILOX_H

#include <stddef.h>
#include <stdint.h>

/* Four random words for a counter and a key. */
static inline void cpgen_philox(
    uint32_t c0, uint32_t c1, uint32_t c2, uint32_t c3, uint64_t seed, uint32_t words[4])
{
    uint32_t k0 = (uint32_t)(seed & 0xFFFFFFFFU);
    uint32_t k1 = (uint32_t)(seed >> 32);
    int round;
    for (round = 0; round < 10; ++round) {
        const uint64_t product0 = (uint64_t)0xD2511F53U * c0;
        const uint64_t product1 = (uint64_t)0xCD9E8D57U * c2;
        c0 = (uint32_t)(product1 >> 32) ^ c1 ^ k0;
        c1 = (uint32_t)(product1 & 0xFFFFFFFFU);
        c2 = (uint32_t)(product0 >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)(product0 & 0xFFFFFFFFU);
        k0 += 0x9E3779B9U;
        k1 += 0xBB67AE85U;
    }
    words[0] = c0;
    words[1] = c1;
    words[2] = c2;
    words[3] = c3;
}

/* A bijection of 0 .. order - 1 (a power of two) keyed by four words, so that any few numbers become a random
 * subset: in each round an affine map, a fold of the upper half onto the lower and the swap-or-not shuffle of
 * Hoang, Morris & Rogaway (2012).
 */
static inline uint32_t cpgen_shuffled(uint32_t x, uint32_t order, const uint32_t words[4])
{
    const uint32_t mask = order - 1U;
    uint32_t half = 0U;
    uint32_t round;
    for (round = order; round > 1U; round >>= 2) {
        ++half; /* half of the bits, rounded up */
    }
    half = half > 0U ? half : 1U;
    for (round = 0U; round < 8U; ++round) {
        const uint32_t word = words[round & 3U];
        const uint32_t key = round < 4U ? word : (word * 0x9E3779B1U) ^ (words[(round + 1U) & 3U] >> 7);
        const uint32_t turned = (key >> 16) | (key << 16);
        uint32_t partner;
        uint32_t larger;
        x = (x * (key | 1U) + turned) & mask;
        x ^= x >> half;
        partner = x ^ ((key >> 9) & mask);
        larger = x > partner ? x : partner;
        x = ((turned >> (larger & 31U)) & 1U) != 0U ? partner : x;
    }
    return x;
}

/* One noise input at one row and column.
 *
 * design 0 (independent): signs of sample = column.
 * design 1 (Hadamard): signs of sample = column / order times a row of a Walsh-Hadamard matrix of that order
 *   (a power of two) whose columns are permuted at random, so that `order` columns of one sample satisfy
 *   V V^T = order * I.
 * design 2 and 3 (identity): element `offset + e` is 1 in column `offset + e`, all others are 0.
 */
typedef struct cpgen_noise {
    uint64_t seed;
    uint64_t absolute; /* column */
    uint32_t sample, row, node, offset;
    uint32_t column; /* of the Hadamard matrix; 0 without one, which changes no sign */
    int32_t design;
} cpgen_noise;

static inline cpgen_noise cpgen_noise_at(
    uint64_t seed, int32_t design, uint32_t order, uint32_t offset, uint32_t node, uint64_t column,
    uint32_t row)
{
    cpgen_noise noise;
    noise.seed = seed;
    noise.absolute = column;
    noise.sample = (uint32_t)((design == 1 ? column / order : column) & 0xFFFFFFFFU);
    noise.row = row;
    noise.node = node;
    noise.offset = offset;
    noise.column = 0U;
    noise.design = design;
    if (design == 1) {
        uint32_t words[4];
        cpgen_philox(noise.sample, row, 0xFFFFFFFFU, 0U, seed, words);
        noise.column = cpgen_shuffled((uint32_t)(column % order), order, words);
    }
    return noise;
}

/* The random bits of elements 128 * block ... 128 * block + 127. */
static inline void cpgen_noise_words(const cpgen_noise *noise, uint32_t block, uint32_t words[4])
{
    if (noise->design >= 2) {
        words[0] = words[1] = words[2] = words[3] = 0U; /* no signs are needed */
        return;
    }
    cpgen_philox(noise->sample, noise->row, noise->node, block, noise->seed, words);
}

/* The value of element e: -1, 1, or 0 (identity design only); `words` are those of its block. */
static inline int cpgen_noise_value(const cpgen_noise *noise, const uint32_t words[4], uint32_t e)
{
    uint32_t parity = (noise->offset + e) & noise->column;
    if (noise->design >= 2) {
        return noise->absolute == (uint64_t)noise->offset + e ? 1 : 0;
    }
    parity ^= parity >> 16;
    parity ^= parity >> 8;
    parity ^= parity >> 4;
    parity ^= parity >> 2;
    parity ^= parity >> 1;
    parity ^= words[(e >> 5) & 3U] >> (e & 31U);
    return (parity & 1U) != 0U ? -1 : 1;
}

/* Up to 32 lanes that stand for rows side by side: the same noise, n of them in step, for the vector unit. */
typedef struct cpgen_noise_lanes {
    uint64_t absolute[32]; /* columns */
    uint32_t sample[32], row[32];
    uint32_t column[32]; /* of the Hadamard matrix */
    uint32_t words[4][32];
    int32_t value[32];
} cpgen_noise_lanes;

static inline void cpgen_philox_lanes(
    cpgen_noise_lanes *noise, int n, uint32_t third, uint32_t fourth, uint64_t seed)
{
    uint32_t c[4][32];
    uint32_t k0 = (uint32_t)(seed & 0xFFFFFFFFU);
    uint32_t k1 = (uint32_t)(seed >> 32);
    int round;
    int k;
    for (k = 0; k < n; ++k) {
        c[0][k] = noise->sample[k];
        c[1][k] = noise->row[k];
        c[2][k] = third;
        c[3][k] = fourth;
    }
    for (round = 0; round < 10; ++round) {
        for (k = 0; k < n; ++k) {
            const uint64_t product0 = (uint64_t)0xD2511F53U * c[0][k];
            const uint64_t product1 = (uint64_t)0xCD9E8D57U * c[2][k];
            c[0][k] = (uint32_t)(product1 >> 32) ^ c[1][k] ^ k0;
            c[1][k] = (uint32_t)(product1 & 0xFFFFFFFFU);
            c[2][k] = (uint32_t)(product0 >> 32) ^ c[3][k] ^ k1;
            c[3][k] = (uint32_t)(product0 & 0xFFFFFFFFU);
        }
        k0 += 0x9E3779B9U;
        k1 += 0xBB67AE85U;
    }
    for (round = 0; round < 4; ++round) {
        for (k = 0; k < n; ++k) {
            noise->words[round][k] = c[round][k];
        }
    }
}

/* cpgen_shuffled of n numbers. */
static inline void cpgen_shuffled_lanes(cpgen_noise_lanes *noise, int n, uint32_t order)
{
    const uint32_t mask = order - 1U;
    uint32_t half = 0U;
    uint32_t round;
    int k;
    for (round = order; round > 1U; round >>= 2) {
        ++half; /* half of the bits, rounded up */
    }
    half = half > 0U ? half : 1U;
    for (round = 0U; round < 8U; ++round) {
        const uint32_t *const word = noise->words[round & 3U];
        const uint32_t *const next = noise->words[(round + 1U) & 3U];
        const uint32_t times = round < 4U ? 1U : 0x9E3779B1U;
        const uint32_t kept = round < 4U ? 0U : 0xFFFFFFFFU;
        for (k = 0; k < n; ++k) {
            const uint32_t key = (word[k] * times) ^ ((next[k] >> 7) & kept);
            const uint32_t turned = (key >> 16) | (key << 16);
            uint32_t x = noise->column[k];
            uint32_t partner;
            uint32_t larger;
            x = (x * (key | 1U) + turned) & mask;
            x ^= x >> half;
            partner = x ^ ((key >> 9) & mask);
            larger = x > partner ? x : partner;
            noise->column[k] = ((turned >> (larger & 31U)) & 1U) != 0U ? partner : x;
        }
    }
}

/* Lane k is row `row + l % rows` in column `column + l / rows`, l = first + k. */
static inline void cpgen_noise_lanes_at(
    cpgen_noise_lanes *noise, int n, ptrdiff_t first, uint64_t seed, int32_t design, uint32_t order,
    uint64_t column, uint32_t row, ptrdiff_t rows)
{
    ptrdiff_t part = first / rows;
    ptrdiff_t place = first % rows;
    int k;
    for (k = 0; k < n; ++k) {
        const uint64_t absolute = column + (uint64_t)part;
        noise->absolute[k] = absolute;
        noise->row[k] = row + (uint32_t)place;
        noise->sample[k] = (uint32_t)(absolute & 0xFFFFFFFFU);
        noise->column[k] = 0U;
        ++place;
        if (place == rows) {
            place = 0;
            ++part;
        }
    }
    if (design == 1) {
        for (k = 0; k < n; ++k) {
            noise->sample[k] = (uint32_t)((noise->absolute[k] / order) & 0xFFFFFFFFU);
            noise->column[k] = (uint32_t)(noise->absolute[k] % order);
        }
        cpgen_philox_lanes(noise, n, 0xFFFFFFFFU, 0U, seed);
        cpgen_shuffled_lanes(noise, n, order);
    }
}

/* The random bits of elements 128 * block ... 128 * block + 127. */
static inline void cpgen_noise_lanes_words(
    cpgen_noise_lanes *noise, int n, uint32_t block, uint32_t node, uint64_t seed, int32_t design)
{
    if (design < 2) { /* the others need no signs */
        cpgen_philox_lanes(noise, n, node, block, seed);
    }
}

/* The values of element e. */
static inline void cpgen_noise_lanes_parity(
    cpgen_noise_lanes *noise, int n, uint32_t e, uint32_t offset, int32_t design)
{
    const uint32_t *const words = noise->words[(e >> 5) & 3U];
    int k;
    if (design >= 2) {
        for (k = 0; k < n; ++k) {
            noise->value[k] = noise->absolute[k] == (uint64_t)offset + e ? 1 : 0;
        }
        return;
    }
    for (k = 0; k < n; ++k) {
        uint32_t parity = (offset + e) & noise->column[k];
        parity ^= parity >> 16;
        parity ^= parity >> 8;
        parity ^= parity >> 4;
        parity ^= parity >> 2;
        parity ^= parity >> 1;
        parity ^= words[k] >> (e & 31U);
        noise->value[k] = 1 - (int32_t)((parity & 1U) << 1);
    }
}

/* The noise of lanes 0 ... stop - 1 of a tile, of element e at tile[e * pitch + lane]. */
static inline void cpgen_noise_tile_f64(
    double *tile, ptrdiff_t pitch, ptrdiff_t stop, ptrdiff_t count, uint64_t seed, int32_t design,
    uint32_t order, uint32_t offset, uint32_t node, uint64_t column, uint32_t row, ptrdiff_t rows)
{
    ptrdiff_t first;
    for (first = 0; first < stop; first += 32) {
        const int n = stop - first < 32 ? (int)(stop - first) : 32;
        cpgen_noise_lanes noise;
        ptrdiff_t e;
        int k;
        cpgen_noise_lanes_at(&noise, n, first, seed, design, order, column, row, rows);
        for (e = 0; e < count; ++e) {
            double *const out = tile + e * pitch + first;
            if (e % 128 == 0) {
                cpgen_noise_lanes_words(&noise, n, (uint32_t)(e / 128), node, seed, design);
            }
            cpgen_noise_lanes_parity(&noise, n, (uint32_t)e, offset, design);
            for (k = 0; k < n; ++k) {
                out[k] = (double)noise.value[k];
            }
        }
    }
}

static inline void cpgen_noise_tile_f32(
    float *tile, ptrdiff_t pitch, ptrdiff_t stop, ptrdiff_t count, uint64_t seed, int32_t design,
    uint32_t order, uint32_t offset, uint32_t node, uint64_t column, uint32_t row, ptrdiff_t rows)
{
    ptrdiff_t first;
    for (first = 0; first < stop; first += 32) {
        const int n = stop - first < 32 ? (int)(stop - first) : 32;
        cpgen_noise_lanes noise;
        ptrdiff_t e;
        int k;
        cpgen_noise_lanes_at(&noise, n, first, seed, design, order, column, row, rows);
        for (e = 0; e < count; ++e) {
            float *const out = tile + e * pitch + first;
            if (e % 128 == 0) {
                cpgen_noise_lanes_words(&noise, n, (uint32_t)(e / 128), node, seed, design);
            }
            cpgen_noise_lanes_parity(&noise, n, (uint32_t)e, offset, design);
            for (k = 0; k < n; ++k) {
                out[k] = (float)noise.value[k];
            }
        }
    }
}

#endif
