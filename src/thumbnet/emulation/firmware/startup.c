/* Start-up for any Cortex-M: vector table, initial data, main. */
#include <stdint.h>

extern uint32_t __data_load[], __data_start[], __data_end[], __bss_start[], __bss_end[], __stack_top[];

int main(void);
void Reset_Handler(void);
void Fault_Handler(void);

__attribute__((noreturn)) void Fault_Handler(void)
{
    for (;;) {
    }
}

__attribute__((noreturn)) void Reset_Handler(void)
{
#if defined(__ARM_FP) || defined(__ARM_FEATURE_MVE)
    *(volatile uint32_t *)0xE000ED88u |= 0xFu << 20; /* CPACR: full access to the floating-point and vector unit */
    __asm__ volatile("dsb\n\tisb" ::: "memory");
#endif
    const uint32_t *from = __data_load;
    for (volatile uint32_t *to = __data_start; to < __data_end;) {
        *to++ = *from++;
    }
    for (volatile uint32_t *to = __bss_start; to < __bss_end;) {
        *to++ = 0;
    }
    (void)main();
    Fault_Handler();
}

typedef union {
    void *address;
    void (*handler)(void);
} vector;

__attribute__((section(".vectors"), used)) const vector vectors[16] = {
    {.address = __stack_top},
    {.handler = Reset_Handler},
    {.handler = Fault_Handler}, /* NMI */
    {.handler = Fault_Handler}, /* HardFault */
    {.handler = Fault_Handler}, /* MemManage */
    {.handler = Fault_Handler}, /* BusFault */
    {.handler = Fault_Handler}, /* UsageFault */
    {.handler = Fault_Handler}, /* SecureFault */
    {.handler = 0},
    {.handler = 0},
    {.handler = 0},
    {.handler = Fault_Handler}, /* SVCall */
    {.handler = Fault_Handler}, /* DebugMonitor */
    {.handler = 0},
    {.handler = Fault_Handler}, /* PendSV */
    {.handler = Fault_Handler}, /* SysTick */
};
