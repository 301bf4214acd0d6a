/* SPDX-License-Identifier: MIT
 * From reset to main() on Cortex-M (QEMU's MPS2 boards) and RISC-V (QEMU's virt board).
 */
#include "board.h"

int main(void);

#if defined(__arm__)
extern uint32_t _sidata[], _sdata[], _edata[], _sbss[], _ebss[], _estack[];
_Noreturn void Reset(void);

static void fault(void)
{
    board_text("FAULT\n");
    board_exit(99);
}

__attribute__((section(".vectors"), used)) void (*const vectors[16])(void) = {
    (void (*)(void))(uintptr_t)_estack, Reset, fault, fault, fault, fault, fault, 0, 0, 0, 0, fault, fault, 0, fault, fault
};

_Noreturn void Reset(void)
{
#if defined(__ARM_FP)
    *(volatile uint32_t *)0xE000ED88U |= 0xFU << 20; /* switch the floating-point unit on */
    __asm__ volatile("dsb\n isb");
#endif
    for (uint32_t *from = _sidata, *to = _sdata; to < _edata;) {
        *to++ = *from++;
    }
    for (uint32_t *to = _sbss; to < _ebss;) {
        *to++ = 0U;
    }
    board_exit(main());
}
#else
extern char _sbss[], _ebss[];

__attribute__((used)) _Noreturn void begin(void)
{
    for (char *to = _sbss; to < _ebss;) {
        *to++ = 0;
    }
    board_exit(main());
}

__attribute__((naked, section(".start"), used)) void _start(void)
{
    __asm__ volatile(".option push\n.option norelax\nla sp, _estack\n.option pop\nli t0, 0x2000\n"
                     ".insn i 0x73, 2, x0, t0, 0x300\nj begin"); /* mstatus.FS: floating-point unit on */
}
#endif
