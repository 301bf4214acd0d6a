/* SPDX-License-Identifier: MIT
 * The little that a program needs on an emulated board without an operating system: text out, exit, a counter.
 */
#ifndef BOARD_H
#define BOARD_H

#include <stdint.h>

/* Semihosting: operation in the first register, address of its arguments in the second. */
#if defined(__arm__)
static inline intptr_t board_call(intptr_t operation, const void *arguments)
{
    register intptr_t r0 __asm__("r0") = operation;
    register const void *r1 __asm__("r1") = arguments;
    __asm__ volatile("bkpt 0xAB" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
}

/* CMSDK timer of the MPS2 boards: 25 MHz, so that one tick is 40 instructions under -icount shift=0. */
#define BOARD_TIMER(offset) (*(volatile uint32_t *)(0x40000000U + (offset)))
#define BOARD_INSTRUCTIONS_PER_TICK 40U
static inline void board_start(void)
{
    BOARD_TIMER(8U) = 0xffffffffU;
    BOARD_TIMER(4U) = 0xffffffffU;
    BOARD_TIMER(0U) = 1U;
}
static inline uint32_t board_ticks(void)
{
    return 0xffffffffU - BOARD_TIMER(4U);
}
#else
/* The three instructions must be uncompressed and on one page: an aligned function of its own. */
__attribute__((naked, noinline, aligned(16), unused)) static intptr_t board_call(intptr_t operation, const void *arguments)
{
    __asm__ volatile(".option push\n.option norvc\nslli x0, x0, 0x1f\nebreak\nsrai x0, x0, 7\n.option pop\nret");
}

#define BOARD_INSTRUCTIONS_PER_TICK 1U
static inline void board_start(void)
{
}
static inline uint32_t board_ticks(void) /* instret */
{
    uintptr_t count;
    __asm__ volatile(".insn i 0x73, 2, %0, x0, -1022" : "=r"(count));
    return (uint32_t)count;
}
#endif

static inline void board_text(const char *text)
{
    (void)board_call(4, text);
}

static inline void board_number(uint32_t value)
{
    char digits[12];
    int at = 11;
    digits[at] = '\0';
    do {
        digits[--at] = (char)('0' + (value % 10U));
        value /= 10U;
    } while (value != 0U);
    board_text(digits + at);
}

static inline _Noreturn void board_exit(int code)
{
    intptr_t block[2];
    block[0] = 0x20026;
    block[1] = code;
    (void)board_call(0x20, block);
    for (;;) {
    }
}

#endif
